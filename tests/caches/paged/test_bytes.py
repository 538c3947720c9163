"""Bytes of paged caches and pools: each number that of real arrays, all of them accounted for."""

import numpy as np
import pytest

from kvsim.caches.base import Waste
from tests.caches.paged.runs import LATENT, ROW, TEXT, WINDOWS
from tests.models import PRIMES, make_model


@pytest.mark.parametrize("config", [PRIMES, WINDOWS, LATENT], ids=["rope", "windows", "latent"])
@pytest.mark.parametrize("length", [0, 1, 4, 6, 9])
def test_bytes_of_a_private_pool(config, length):
    model = make_model(config)
    cache = model.new_cache("paged:4")
    if length:
        model(TEXT[:length], cache)
    assert cache.allocated_bytes == sum(x.stored.keys.nbytes + x.stored.values.nbytes for x in cache.layers)
    assert cache.logical_bytes == sum(x.keys.nbytes + x.values.nbytes for x in cache.layers)
    assert cache.metadata_bytes == np.array(cache.table.blocks, dtype="int32").nbytes
    assert cache.allocated_bytes == cache.logical_bytes + sum(cache.wasted)
    assert sum(cache.pool.layers[i].allocated_bytes for i in range(2)) == cache.allocated_bytes
    fork = cache.fork()
    assert fork.allocated_bytes == cache.allocated_bytes
    assert fork.allocated_bytes == fork.logical_bytes + sum(fork.wasted)


def test_what_is_wasted():
    """Nine tokens in blocks of four: 4 blocks, of which 3 are in use; 3 slots of the last are empty; a window of 4
    needs the last 3 rows."""
    model = make_model(WINDOWS)
    cache = model.new_cache("paged:4")
    model(TEXT[:9], cache)
    assert cache.layers[0].waste == Waste(reserved=4 * ROW, internal=3 * ROW, external=6 * ROW)
    assert cache.layers[1].waste == Waste(reserved=4 * ROW, internal=3 * ROW, external=0)
    assert cache.wasted == Waste(8 * ROW, 6 * ROW, 6 * ROW)
    assert cache.logical_bytes == 12 * ROW
    assert cache.metadata_bytes == 12


def test_bytes_of_a_shared_pool():
    """A cache counts its blocks, shared ones in full; the pool each once."""
    model = make_model(WINDOWS)
    pool = model.new_pool("paged:4", blocks=10)
    arrays = sum(x.keys.nbytes + x.values.nbytes for x in pool.layers)
    assert (pool.allocated_bytes, pool.logical_bytes) == (arrays, 0)
    assert arrays == 2 * 10 * 4 * ROW
    cache = pool.new_cache()
    model(TEXT[:6], cache)
    fork = cache.fork()
    assert cache.allocated_bytes == fork.allocated_bytes == 2 * 2 * 4 * ROW
    assert pool.logical_bytes == cache.logical_bytes == (3 + 6) * ROW
    model(TEXT[6:8], fork)  # its own second block: rows 4 to 7, of which the window needs the last three
    assert fork.logical_bytes == (3 + 8) * ROW
    assert pool.logical_bytes == (3 + 3) * ROW + (6 + 4) * ROW
    for one in (cache, fork):
        assert one.allocated_bytes == one.logical_bytes + sum(one.wasted)
        assert one.wasted.reserved == 0
    assert pool.allocated_bytes == arrays
    fork.clear()
    assert (fork.allocated_bytes, fork.metadata_bytes) == (0, 0)
    assert pool.logical_bytes == cache.logical_bytes
