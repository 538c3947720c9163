"""What tests of paged caches share: models, a pool in no order, and ways to feed."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from kvsim.config import Latent
from tests.models import CLOSE, GPT2_LIKE, PRIMES

LATENT = replace(
    PRIMES, n_kv_heads=6, latent=Latent(5, 7, 3, 4, 10, 1e-6, "absorbed"),
    layers=(replace(PRIMES.layers[0], rope=replace(PRIMES.layers[0].rope, size=4)),) * 2,
)  # fmt: skip
WINDOWS = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=4), PRIMES.layers[1]))
CONFIGS = {"rope": PRIMES, "learned": GPT2_LIKE, "latent": LATENT, "windows": WINDOWS}
ROW = PRIMES.n_kv_heads * 2 * PRIMES.d_head * 8  # bytes of a token in one layer in float64
TEXT = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]


def scatter(pool, seed=0):
    """A pool whose blocks are given out in no order."""
    blocks = pool.numbers.allocate(pool.blocks)
    np.random.default_rng(seed).shuffle(blocks)
    pool.numbers.release(blocks)
    return pool


def feed(model, cache, ids, sizes, **source):
    parts, start = [], 0
    for size in sizes:
        parts.append(model(ids[start : start + size], cache, **source))
        start += size
    return np.concatenate([model.ops.backend.to_host(part) for part in parts])


def every_cut(length):
    """All ways to cut `length` tokens into chunks."""
    for bits in range(2 ** (length - 1)):
        ends = [0, *(i + 1 for i in range(length - 1) if bits >> i & 1), length]
        yield [stop - start for start, stop in pairwise(ends)]


def close(got, wanted, dtype="float64"):
    return np.abs(got - wanted).max() <= CLOSE[dtype] * np.abs(wanted).max()


def rows_of(cache, layer):
    """Keys and values by the table, one row after the other."""
    stored, blocks, size = cache.layers[layer].stored, cache.table.blocks, cache.pool.size
    places = [blocks[i // size] * size + i % size for i in range(cache.seen)]
    return stored.keys[:, places, :], stored.values[:, places, :]
