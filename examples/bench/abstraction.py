"""Overhead of the array abstraction: one cached decode step of GPT-2-124M's shape in kvsim, relative to the same step
written directly in NumPy. Prints the median ratio of interleaved runs.

    python examples/bench/abstraction.py [REPEATS]
"""

import math
import statistics
import sys
import time

import numpy as np

from kvsim.config import Config, LayerKind
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model

GPT2 = Config(
    family="gpt2", vocab_size=50257, max_context=1024, n_layers=12, d_model=768, n_heads=12, n_kv_heads=12, d_head=64,
    d_ff=3072, norm="layer", norm_eps=1e-5, activation="gelu_tanh", gated=False, layers=(LayerKind(),) * 12,
    learned_positions=True, qkv_bias=True, out_bias=True, ff_bias=True, tied_head=True,
)  # fmt: skip
PROMPT = 128


def norm(x, w):
    x = x - np.mean(x, axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * w.gain + w.bias


def linear(x, w):
    return np.matmul(x, w.weight.T) + w.bias


def heads(x):
    return x.reshape(len(x), 12, 64).transpose(1, 0, 2)


def by_hand(w, token, at, keys, values):
    """Logits [1, V] of one step without kvsim; keys and values [layers, heads, 1024, 64] are filled up to `at`."""
    x = w.tokens[[token]] + w.positions[at : at + 1]
    for i, layer in enumerate(w.layers):
        y = norm(x, layer.attention_norms.before)
        q, k, v = (heads(linear(y, p)) for p in (layer.attention.query, layer.attention.key, layer.attention.value))
        keys[i, :, at : at + 1], values[i, :, at : at + 1] = k, v
        scores = np.matmul(q, keys[i, :, : at + 1].transpose(0, 2, 1)) * 0.125
        weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
        context = np.matmul(weights / np.sum(weights, axis=-1, keepdims=True), values[i, :, : at + 1])
        x = x + linear(context.transpose(1, 0, 2).reshape(1, 768), layer.attention.output)
        y = linear(norm(x, layer.ff_norms.before), layer.ff.up)
        y = 0.5 * y * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (y + 0.044715 * y * y * y)))
        x = x + linear(y, layer.ff.down)
    return np.matmul(norm(x, w.final_norm), w.head.weight.T)


def main(repeats):
    model = Model(GPT2, random_weights(GPT2, dtype="float32"), backend="numpy")
    ids = [7 * i % 50257 for i in range(PROMPT)]
    cache = model.new_cache("static:1024")
    model(ids, cache, logits="last")
    keys, values = (np.ones((12, 12, 1024, 64), np.float32) for _ in range(2))
    for i, layer in enumerate(cache.layers):
        keys[i, :, :PROMPT], values[i, :, :PROMPT] = layer.keys, layer.values
    ratios = []
    for step in range(repeats):
        at, times = PROMPT + step, []
        runs = [lambda at=at: model([at], cache), lambda at=at: by_hand(model.weights, at, at, keys, values)]
        results = {}
        for which in (0, 1) if step % 2 else (1, 0):
            start = time.perf_counter()
            results[which] = runs[which]()
            times.append((which, time.perf_counter() - start))
        assert np.abs(results[0] - results[1]).max() <= 1e-4 * np.abs(results[1]).max()
        taken = dict(times)
        ratios.append(taken[0] / taken[1])
    quarter = statistics.quantiles(ratios, n=4)
    print(f"kvsim / by hand: median {quarter[1]:.3f}, quartiles {quarter[0]:.3f} {quarter[2]:.3f} ({repeats} pairs)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
