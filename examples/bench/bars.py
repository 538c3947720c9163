"""The speeds that kvsim promises, as ratios of interleaved runs: python examples/bench/bars.py [gguf FILE].

Each line is a median and its quartiles. Needs transformers. kvsim counts every product in all of its runs but those
marked as off, and the sums are read. Run it on an idle machine, and again with OMP_NUM_THREADS=1.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from abstraction import GPT2

import kvsim
from kvsim.benchmark.limits import describe_machine
from kvsim.benchmark.peers import TransformersPeer
from kvsim.benchmark.subjects import open_subject
from kvsim.fast.numpy_ops import count_threads
from kvsim.generation.sampling import Sampler

PROMPT, NEW = 16, 128


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(name, ours, theirs, pairs, times=1):
    """Print quartiles of `times` · theirs / ours over `pairs` interleaved pairs, each in the opposite order."""
    ours(), theirs()
    ratios = []
    for i in range(pairs):
        taken = {}
        for which in ((ours, theirs), (theirs, ours))[i % 2]:
            taken[which] = seconds(which)
        ratios.append(times * taken[theirs] / taken[ours])
    low, middle, high = statistics.quantiles(ratios, n=4) if pairs > 1 else ratios * 3
    print(f"{name:<76}{middle:7.2f}   ({low:.2f} .. {high:.2f}, {pairs} pairs)", flush=True)


def bare_products(model):
    """A function that multiplies the model's matrices by one vector each, query, key and value as one matrix: a lower
    bound for a step."""
    matrices = []
    for layer in model.weights.layers:
        a, ff = layer.attention, layer.ff
        matrices.append(np.concatenate([a.query.weight, a.key.weight, a.value.weight]))
        matrices += [np.array(w.weight) for w in (a.output, ff.gate, ff.up, ff.down) if w is not None]
    matrices.append(np.array(model.weights.head.weight))
    vectors = {w.shape[1]: np.ones(w.shape[1], np.float32) for w in matrices}

    def run():
        for w in matrices:
            w @ vectors[w.shape[1]]

    return run


def decode_step(model, context):
    """A function that runs one cached step at `context` and crops the cache again."""
    cache, sampler = model.new_cache("static:1024"), Sampler()
    model([7 * i % model.config.vocab_size for i in range(context)], cache, logits="last")

    def run():
        with model.count() as ledger:
            logits = model([11], cache, logits="last")
        cache.crop(context)
        return ledger.flops, sampler.choose(model.ops, logits[0, :], context)

    return run


def uncounted_and_counted(model, context):
    """Functions that run one cached step without and with counting."""
    cache, sampler = model.new_cache("static:1024"), Sampler()
    model([7 * i % model.config.vocab_size for i in range(context)], cache, logits="last")

    def uncounted():
        sampler.choose(model.ops, model([11], cache, logits="last")[0, :], context)
        cache.crop(context)

    return uncounted, decode_step(model, context)


def again(call, times):
    """A function that calls `call` `times` times, with warm processor caches as in a loop of steps."""

    def run():
        for _ in range(times):
            call()

    return run


def loop(model, spec="dynamic"):
    ids = [7 * i % model.config.vocab_size for i in range(PROMPT)]
    return lambda: kvsim.generate(model, ids, NEW, cache=spec, logits="last").ledger.flops


def their_loop(peer, use_cache=True):
    torch = peer.torch

    def run():
        ids = torch.tensor([[7 * i % peer.model.config.vocab_size for i in range(PROMPT)]])
        past = peer.new_cache() if use_cache else None
        with torch.inference_mode():
            new = ids
            for _ in range(NEW):
                out = peer.forward(new, past, logits_to_keep=1)
                chosen = out.logits[:, -1].argmax(-1, keepdim=True)
                ids = torch.cat([ids, chosen], 1)
                new = chosen if use_cache else ids

    return run


def their_generate(peer):
    ids = peer.torch.tensor([[7 * i % peer.model.config.vocab_size for i in range(PROMPT)]])
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    return lambda: peer.model.generate(ids, attention_mask=peer.torch.ones_like(ids), **options)


def against_transformers(name, model, peer):
    report(f"{name}: decode {PROMPT} + {NEW}, transformers' step loop / kvsim", loop(model), their_loop(peer), 5)
    report(f"{name}: decode {PROMPT} + {NEW}, transformers' generate / kvsim", loop(model), their_generate(peer), 3)


def gpt2():
    with tempfile.TemporaryDirectory() as folder:
        model = open_subject("gpt2", "numpy", None, "float32", Path(folder))
        peer = TransformersPeer(model)
    bare = bare_products(model)
    for context in (PROMPT + NEW // 2, 1000):
        report(f"gpt2: decode at context {context}, bare products / kvsim", decode_step(model, context), bare, 40)
    ids, square = [7 * i % 50257 for i in range(512)], np.ones((1024, 1024), np.float32)
    with model.count() as ledger:
        model(ids, logits="last")
    products = ledger.useful_macs / 1024**3  # the prefill's useful work in products of 1024^3
    rest = products - int(products)

    def peak():
        for _ in range(int(products)):
            square @ square
        square[: int(1024 * rest)] @ square

    def prefill():
        with model.count() as counted:
            model(ids, model.new_cache("dynamic"), logits="last")
        return counted.flops

    report("gpt2: prefill of 512, its useful FLOPs at product speed / kvsim", prefill, peak, 7)
    theirs = peer.torch.tensor([ids])

    def their_prefill():
        with peer.torch.inference_mode():
            peer.forward(theirs, peer.new_cache(), logits_to_keep=1)

    report("gpt2: prefill of 512, transformers / kvsim", prefill, their_prefill, 7)
    against_transformers("gpt2", model, peer)
    report("gpt2: no cache, transformers use_cache=False / kvsim", loop(model, "none"), their_loop(peer, False), 1)
    several = [[(7 * i + j) % 50257 for i in range(PROMPT)] for j in range(8)]
    report(
        "gpt2: 16 + 48 tokens, tokens a second of 8 prompts / of 1",
        lambda: kvsim.generate(model, several, 48, logits="last"),
        lambda: kvsim.generate(model, several[0], 48, logits="last"),
        3,
        8,
    )
    report("gpt2: decode, counting on / off", *uncounted_and_counted(model, 80), 40)


def demo():
    model = kvsim.load("demo", attention="blocked")
    peer = TransformersPeer(model)
    peer.fill([5] * 16)
    token = peer.torch.tensor([[11]])

    def theirs():
        with peer.torch.inference_mode():
            peer.forward(token, peer.cache)
        peer.cache.crop(-1)

    step = decode_step(model, 16)
    report(
        "demo: one cached step in runs of 50, transformers' forward / kvsim",
        again(step, 50),
        again(theirs, 50),
        40,
    )
    report("demo: alternating single steps, transformers' forward / kvsim", step, theirs, 400)
    pair = [again(call, 50) for call in uncounted_and_counted(model, 16)]
    report("demo: decode, counting on / off", *pair, 40)


if __name__ == "__main__":
    print(f"{describe_machine()}, {count_threads()} threads, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}")
    assert GPT2.n_layers == 12
    demo()
    gpt2()
    if len(sys.argv) > 2:
        smol = kvsim.load(sys.argv[2], attention="blocked")
        against_transformers("SmolLM2-135M", smol, TransformersPeer(smol))
