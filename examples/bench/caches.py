"""Time of a decode step under each cache policy relative to static:4200: GPT-2-124M's shape in float32 with 4,096
cached tokens. Prints median ratios of interleaved steps; after each step the cache is cropped.

    OMP_NUM_THREADS=1 python examples/bench/caches.py [REPEATS]
"""

import statistics
import sys
import time
from dataclasses import replace

import numpy as np
from abstraction import GPT2

from kvsim.caches.base import Encode
from kvsim.caches.cache import Cache
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.spans import Span

CONTEXT = 4096
POLICIES = ("static:4200", "dynamic", "paged:16")


def fill(cache: Cache, generator: np.random.Generator) -> None:
    """Fill the cache with CONTEXT random rows, which saves minutes of prefill."""
    keep: Encode = lambda keys, values, pos: (keys, values)  # noqa: E731
    for layer in cache.layers:
        g, k, v = layer.shape
        keys, values = (generator.normal(size=(g, CONTEXT, d)).astype("float32") for d in (k, v))
        layer.update(keys, values, Span(0, CONTEXT), keep)
    cache.commit(Span(0, CONTEXT), [7 * i % GPT2.vocab_size for i in range(CONTEXT)])


def scattered(model: Model) -> Cache:
    """A cache whose blocks alternate with another's, so that none is adjacent to the one before it."""
    pool = model.new_pool("paged:16", blocks=2 * (CONTEXT // 16 + 4))
    one, other = pool.new_cache(), pool.new_cache()
    for i in range(CONTEXT // 16 + 1):
        for cache in (one, other):
            cache.table.prepare(Span(16 * i, 16 * (i + 1)))
    return one


def step(model: Model, cache: Cache) -> float:
    """Seconds of one decode step; the cache is cropped afterwards."""
    start = time.perf_counter()
    model([11], cache)
    taken = time.perf_counter() - start
    cache.crop(CONTEXT)
    return taken


def main(repeats: int) -> None:
    config = replace(GPT2, max_context=4224)
    model = Model(config, random_weights(config, dtype="float32"), backend="numpy")
    caches = {name: model.new_cache(name) for name in POLICIES} | {"paged:16 scattered": scattered(model)}
    for cache in caches.values():
        fill(cache, np.random.default_rng(0))
        model([11], cache)
        cache.crop(CONTEXT)
    times: dict[str, list[float]] = {name: [] for name in caches}
    for i in range(repeats):
        order = list(caches) if i % 2 else list(reversed(caches))
        for name in order:
            times[name].append(step(model, caches[name]))
    base = times["static:4200"]
    print(f"static:4200: {1000 * statistics.median(base):.1f} ms a step at {CONTEXT:,} tokens ({repeats} steps)")
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(taken, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:<20} / static:4200: median {middle:.3f}, quartiles {low:.3f} {high:.3f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
