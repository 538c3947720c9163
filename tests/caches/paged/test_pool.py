"""A pool of many sequences: refusals, which change nothing, and prefix reuse."""

import numpy as np
import pytest

from kvsim.config import BY_LENGTH
from kvsim.doctor.against_numpy import IDS, make
from kvsim.errors import UsageError
from tests.arrays.runs import ZOO
from tests.caches.paged.runs import CONFIGS, TEXT, close, feed, rows_of, scatter
from tests.models import PRIMES, make_model


def held_by(*caches):
    """Everything that a refused step must not change."""
    return [(c.seen, list(c.ids), list(c.table.blocks), c.pool.held, c.pool.kept) for c in caches]


def test_a_pool_is_made_of_blocks():
    model = make_model(PRIMES)
    for spec in ("dynamic", "static:16", "none"):
        with pytest.raises(UsageError, match=f"a pool is made of blocks: use paged:16, not {spec}"):
            model.new_pool(spec)
    for blocks in (0, -1, 1.5, True, "4"):
        with pytest.raises(UsageError, match="blocks must be a whole number of at least 1, got"):
            model.new_pool("paged:4", blocks=blocks)
    with pytest.raises(UsageError, match="more than can be allocated"):
        model.new_pool("paged:16", blocks=10**15)
    pool = model.new_pool("paged:4", blocks=6)
    assert (pool.size, pool.blocks, pool.held, pool.free, pool.kept, pool.spec) == (4, 6, 0, 6, 0, "paged:4")
    assert repr(pool) == (
        "<kvsim.Pool paged:4: llama, 2 layers of 3 heads (10 + 10), float64 on numpy;"
        " 0 blocks in use, 6 free, 23040 bytes>"
    )
    endless = model.new_pool()
    assert (endless.spec, endless.blocks, endless.free) == ("paged:16", None, None)
    assert repr(endless).endswith("; 0 blocks in use, any number free, 0 bytes>")


@pytest.mark.parametrize("name", CONFIGS)
def test_many_sequences(name):
    """In turns and in one batch, with and without a limit: each has the logits that it would have alone."""
    model = make_model(CONFIGS[name])
    for pool in (model.new_pool("paged:3", blocks=20), model.new_pool("paged:3")):
        texts = [TEXT, TEXT[::-1], [*TEXT[:4], *TEXT[:4]]]
        caches = [pool.new_cache() for _ in texts]
        parts = [[] for _ in texts]
        for start, stop in ((0, 3), (3, 4), (4, 8)):
            pairs = [(text[start:stop], cache) for text, cache in zip(texts, caches, strict=True)]
            for part, out in zip(parts, model.batch(pairs), strict=True):
                part.append(out)
        for text, part in zip(texts, parts, strict=True):
            assert close(np.concatenate(part), model(text[:8]))
        assert pool.held == 9
        assert not caches[0].table.runs_from(0)


def test_a_full_pool_is_refused_before_anything_changes():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=3)
    one, other = pool.new_cache(), pool.new_cache()
    model(TEXT[:6], one)
    before = held_by(one, other)
    with pytest.raises(UsageError) as caught:
        model(TEXT[:5], other)
    assert str(caught.value) == (
        "asked for 2 more blocks of 4 tokens: of 3 in the pool 2 are in use and 1 free;"
        " clear a cache, or make a larger pool"
    )
    for step in ([(TEXT[6:9], one), ([1], other)], [([1], other), (TEXT[6:9], one)]):
        with pytest.raises(UsageError, match="asked for 2 more blocks"):
            model.batch(step)
    assert held_by(one, other) == before
    with pytest.raises(UsageError, match="asked for 2 more blocks"):
        one.admit(7)  # as `generate` asks before it begins
    assert held_by(one, other) == before
    one.clear()
    assert close(model(TEXT[:9], other), model(TEXT[:9]))


def test_a_fork_of_a_full_pool_may_not_write():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=2)
    cache = pool.new_cache()
    model(TEXT[:6], cache)
    fork = cache.fork()
    before = held_by(cache, fork)
    for one in (fork, cache):
        with pytest.raises(UsageError, match="asked for 1 more blocks of 4 tokens"):
            model([1], one)
    assert held_by(cache, fork) == before
    cache.clear()
    assert close(model(TEXT[6:8], fork), model(TEXT[:8])[6:])


@pytest.mark.parametrize(("forks", "writing", "needed"), [(1, 2, 1), (1, 1, 1), (2, 2, 2), (2, 3, 2), (0, 1, 0)])
def test_copies_that_a_batch_needs(forks, writing, needed):
    """If every holder of a block writes it, the last one does not copy it."""
    model = make_model(PRIMES)
    for free in range(4):
        pool = model.new_pool("paged:4", blocks=2 + free)
        caches = [pool.new_cache()]
        model(TEXT[:6], caches[0])
        caches += [caches[0].fork() for _ in range(forks)]
        step = [([20 + i], cache) for i, cache in enumerate(caches[:writing])]
        if free < needed:
            before = held_by(*caches)
            with pytest.raises(UsageError, match=r"asked for [12] more blocks"):
                model.batch(step)
            assert held_by(*caches) == before
        else:
            for i, out in enumerate(model.batch(step)):
                assert close(out, model([*TEXT[:6], 20 + i])[6:])
            assert pool.held == 2 + needed


# Prefixes


@pytest.mark.parametrize("name", CONFIGS)
def test_a_prefix_is_reused(name):
    """Full blocks of the common prefix are reused, but at least one token remains to be fed."""
    model = make_model(CONFIGS[name])
    pool = scatter(model.new_pool("paged:3", blocks=30))
    first = pool.new_cache()
    feed(model, first, TEXT, (4, 1, 6))
    for ids, found in (
        (TEXT, 9),
        (TEXT[:10], 9),
        (TEXT[:9], 6),
        (TEXT[:3], 0),
        ([*TEXT[:8], 90, 91, 92, 93], 6),
        ([90, *TEXT[1:]], 0),
        ([*TEXT[3:6], *TEXT[:6]], 0),
        ([], 0),
    ):
        cache = pool.new_cache()  # which takes the name of the one before, so that its blocks are free
        held = pool.held
        assert pool.reuse(cache, iter(np.array(ids, dtype="int32"))) == found == cache.seen
        assert cache.ids == ids[:found]
        assert cache.table.blocks == first.table.blocks[: found // 3]
        assert pool.held == held
        if ids:
            assert close(model(ids[cache.seen :], cache), model(ids)[found:])
            assert cache.ids == ids
    assert close(model([90], first), model([*TEXT, 90])[11:]), "and the first goes on"


def test_a_prefix_is_found_after_its_sequence_has_gone():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:2", blocks=6)
    cache = pool.new_cache()
    model(TEXT[:7], cache)
    cache.clear()
    assert (pool.held, pool.free, pool.kept) == (0, 6, 3)
    assert pool.reuse(cache, TEXT[:7]) == 6
    assert (pool.held, pool.kept) == (3, 0)
    assert close(model(TEXT[6:9], cache), model(TEXT[:9])[6:])
    cache.clear()
    model([1] * 9, cache)  # 5 of 6 blocks: of the four that could be found, the ends go first
    cache.clear()
    assert pool.reuse(cache, TEXT) == 2
    assert close(model(TEXT[2:5], cache), model(TEXT[:5])[2:])


LONG = [*range(20, 33)]  # three blocks of four, and one token


def test_a_prefix_is_found_through_each_of_its_sequences():
    """Two sequences with one prompt in one batch compute it twice. The blocks of the first are allocated again."""
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=8)
    first, second, other = (pool.new_cache() for _ in range(3))
    model.batch([(LONG, first), (LONG, second)])
    assert (pool.held, pool.kept) == (8, 0)
    first.clear()
    assert (pool.held, pool.kept) == (4, 3), "its last block is not full"
    model([1] * 16, other)
    assert (pool.held, pool.kept) == (8, 0)
    other.clear()
    assert pool.reuse(other, LONG) == 12
    assert other.table.blocks == second.table.blocks[:3]
    assert close(model(LONG[12:], other), model(LONG)[12:])
    second.clear()
    other.clear()
    assert pool.kept == 6, "three blocks of ones are left"


def test_kept_blocks_can_be_found():
    """The end of the second sequence could not be found without its beginning, which it computed itself."""
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=7)
    first, second, other = (pool.new_cache() for _ in range(3))
    model.batch([(LONG[:8], first), (LONG[:8], second)])
    model(LONG[8:12], second)
    first.clear()
    model([1] * 16, other)
    second.clear()
    assert pool.kept == 3
    assert pool.reuse(second, [*LONG[:12], 1]) == 12


def test_who_writes_into_a_block_that_could_be_found_hides_it():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=9)
    cache, other = pool.new_cache(), pool.new_cache()
    model(TEXT[:9], cache)
    cache.crop(6)
    assert pool.reuse(other, TEXT) == 8, "until it is written"
    model([90, 91, 92], cache)
    assert cache.table.blocks[1] != other.table.blocks[1]
    other.clear()
    assert pool.reuse(other, TEXT) == 8, "a copy was written"
    other.crop(6)
    model([93, 94, 95], other)
    assert other.table.blocks == [0, 1, 4], "alone with it: in place"
    third = pool.new_cache()
    assert pool.reuse(third, TEXT) == 4
    for tokens in ([90, 91, 92], [93, 94, 95]):
        third.clear()
        ids = [*TEXT[:6], *tokens]
        assert pool.reuse(third, ids) == 8
        assert close(model(ids[8:], third), model(ids)[8:])


def test_a_fork_says_what_it_has_read():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:2", blocks=12)
    cache = pool.new_cache()
    model(TEXT[:5], cache)
    fork = cache.fork()
    model([90, 91, 92], fork)
    cache.clear()
    assert pool.reuse(cache, [*TEXT[:5], 90, 91, 92, 93]) == 8
    assert cache.table.blocks == fork.table.blocks
    for i in range(2):
        assert np.array_equal(rows_of(cache, i)[0], rows_of(fork, i)[0])


def test_what_cannot_be_reused():
    model = make_model(PRIMES)
    pool, other = model.new_pool("paged:4", blocks=4), model.new_pool("paged:4", blocks=4)
    for cache in (other.new_cache(), model.new_cache("paged:4"), model.new_cache("dynamic"), None):
        with pytest.raises(UsageError, match="belongs to another pool"):
            pool.reuse(cache, TEXT)
    cache = pool.new_cache()
    model(TEXT[:5], cache)
    with pytest.raises(UsageError, match="only an empty cache can reuse a prefix, this one has seen 5 tokens"):
        pool.reuse(cache, TEXT)
    for name, config in ZOO.items():
        if any(kind.rope and kind.rope.kind in BY_LENGTH for kind in config.layers):
            model = make(config, "numpy", "float64")
            pool = model.new_pool("paged:4", blocks=4)
            model(IDS[:9], pool.new_cache())
            with pytest.raises(UsageError, match="position encoding depends on the length of the text"):
                pool.reuse(pool.new_cache(), IDS)
            assert pool.kept == 0, name


def test_a_private_pool_caches_no_prefixes():
    model = make_model(PRIMES)
    cache = model.new_cache("paged:2")
    model(TEXT, cache)
    assert cache.pool.reuse(cache.pool.new_cache(), TEXT) == 0
    cache.clear()
    assert (cache.pool.held, cache.pool.kept, cache.table.pool.made) == (0, 0, 6)


def test_blocks_of_an_interrupted_step_are_not_cached(monkeypatch):
    model = make_model(PRIMES)
    pool = model.new_pool("paged:2", blocks=9)
    cache, other = pool.new_cache(), pool.new_cache()
    with monkeypatch.context() as patch:
        patch.setattr(cache.layers[1], "update", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(TEXT[:6], cache)
    assert pool.reuse(other, TEXT) == 0
    assert pool.reuse(cache, TEXT) == 0
    assert pool.held == 0, "nor kept by the one that begins again"
    assert close(model(TEXT, cache), model(TEXT))
