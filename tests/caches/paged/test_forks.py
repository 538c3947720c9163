"""Paged caches forked, cropped and interrupted: copy on write, no row lost, no block leaked."""

import numpy as np
import pytest

from kvsim.caches.cache import select
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.generation.generate import generate
from tests.arrays.runs import ZOO
from tests.caches.paged.runs import TEXT, WINDOWS, close, rows_of, scatter
from tests.models import PRIMES, make_model

# Forks


def test_a_fork_copies_nothing_until_it_is_written():
    model = make_model(PRIMES)
    cache = model.new_pool("paged:4", blocks=8).new_cache()
    model(TEXT[:6], cache)
    fork = cache.fork()
    assert fork.table.blocks == cache.table.blocks == [0, 1]
    assert (cache.pool.held, cache.pool.free) == (2, 6)
    assert (fork.seen, fork.ids) == (6, TEXT[:6])
    kept = [rows_of(cache, i) for i in range(2)]  # copies: an index list
    whole = model([*TEXT[:6], 90, 91])
    assert close(model([90, 91], fork), whole[6:])
    assert fork.table.blocks == [0, 2]
    assert [cache.pool.numbers.references(b) for b in range(3)] == [2, 1, 1]
    for i in range(2):
        for now, then in zip(rows_of(cache, i), kept[i], strict=True):
            assert np.array_equal(now, then)
    assert close(model(TEXT[6:], cache), model(TEXT)[6:])
    assert cache.table.blocks[:2] == [0, 1], "its own again: written in place"


def test_a_fork_at_the_end_of_a_block_copies_nothing():
    model = make_model(PRIMES)
    cache = model.new_pool("paged:4", blocks=8).new_cache()
    model(TEXT[:8], cache)
    fork = cache.fork()
    assert close(model([90], fork), model([*TEXT[:8], 90])[8:])
    assert (cache.table.blocks, fork.table.blocks) == ([0, 1], [0, 1, 2])


def test_a_copy_has_the_rows_before_and_no_others():
    """The copied block has the rows of the original; rows that were never written are not read."""
    model = make_model(PRIMES)
    cache = model.new_pool("paged:4", blocks=8).new_cache()
    for stored in cache.pool.layers:
        stored.keys[...] = stored.values[...] = np.nan
    model(TEXT[:6], cache)
    fork = cache.fork()
    assert np.isfinite(model([90], fork)).all()
    for stored in cache.pool.layers:
        assert np.array_equal(stored.keys[:, 4:6], stored.keys[:, 8:10])
        assert np.isnan(stored.keys[:, 11:]).all()


def test_beams():
    """`select` over a pool: sequences are independent, and blocks without references are free."""
    model = make_model(WINDOWS)
    pool = model.new_pool("paged:3", blocks=20)
    caches, texts = [pool.new_cache()], [TEXT[:4]]
    model(texts[0], caches[0])
    generator = np.random.default_rng(1)
    for _ in range(6):
        order = [int(i) for i in generator.integers(0, len(caches), 3)]
        caches, texts = select(caches, order), [[*texts[i]] for i in order]
        new = [int(i) for i in generator.integers(0, 101, 3)]
        outs = model.batch([([token], cache) for token, cache in zip(new, caches, strict=True)])
        for text, token, out in zip(texts, new, outs, strict=True):
            text.append(token)
            assert close(out, model(text)[-1:])
        assert pool.held == len({block for cache in caches for block in cache.table.blocks})


def test_a_garbage_collected_cache_releases_its_blocks():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:2", blocks=8)
    cache = pool.new_cache()
    model(TEXT[:5], cache)
    fork = cache.fork()
    model([1], fork)
    assert pool.held == 4
    layer = fork.layers[0]
    del fork
    assert pool.held == 4, "who has a layer has its rows"
    del layer
    assert pool.held == 3
    del cache
    assert (pool.held, pool.free) == (0, 8)


# Crop, clear, interruptions


def test_crop_gives_whole_blocks_back():
    model = make_model(WINDOWS)
    cache = model.new_pool("paged:3", blocks=4).new_cache()
    model(TEXT, cache)
    for length, held in ((10, 4), (9, 3), (7, 3), (2, 1), (0, 0)):
        cache.crop(length)
        assert (cache.seen, cache.pool.held) == (length, held)
        again = cache.fork()
        assert again.seen == length
        again.clear()
        other = [90, 91, 92]
        if length == 7:
            assert close(model(other, cache), model(TEXT[:7] + other)[7:])
            cache.crop(7)


def test_an_interrupted_step_leaves_nothing_behind(monkeypatch):
    """The second layer fails: the blocks of the step are released, and the next one writes its rows."""
    model = make_model(PRIMES)
    cache = model.new_pool("paged:2", blocks=6).new_cache()
    model(TEXT[:3], cache)

    def fail(*_):
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(cache.layers[1], "update", fail)
            with pytest.raises(KeyboardInterrupt):
                model([90, 91, 92, 93], cache)
        assert (cache.seen, cache.pool.held) == (3, 2)
    fork = cache.fork()
    assert fork.table.blocks == cache.table.blocks[:2], "only what has been seen"
    fork.clear()
    assert close(model(TEXT[3:], cache), model(TEXT)[3:])
    assert (cache.pool.held, cache.pool.free) == (6, 0)

    cache.crop(4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.layers[1], "update", fail)
        with pytest.raises(KeyboardInterrupt):
            model([90, 91, 92, 93], cache)
    assert cache.pool.held == 2
    assert [layer.keys.shape[1] for layer in cache.layers] == [4, 4]


def test_a_copy_that_fails_gives_its_block_back(monkeypatch):
    model = make_model(PRIMES)
    cache = model.new_pool("paged:4", blocks=5).new_cache()
    model(TEXT[:6], cache)
    fork = cache.fork()
    with monkeypatch.context() as patch:
        patch.setattr(cache.pool.layers[1], "copy", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(TEXT[6:8], fork)
    assert (fork.table.blocks, cache.pool.held) == ([0, 1], 2)
    assert close(model(TEXT[6:], fork), model(TEXT)[6:])


def test_a_state_is_all_rows():
    for config in (PRIMES, WINDOWS):
        model = make_model(config)
        cache, other = model.new_cache("paged:3"), scatter(model.new_pool("paged:4", blocks=9)).new_cache()
        model(TEXT[:7], cache)
        model(TEXT[::-1], other)
        for mine, theirs in zip(cache.layers, other.layers, strict=True):
            theirs.restore(mine.state())
        other.seen, other.ids, other.prefixes = 7, TEXT[:7], []
        assert close(model(TEXT[7:], other), model(TEXT)[7:])
        fresh = cache.layers[0].fresh()
        fresh.restore(cache.layers[0].state())
        assert np.array_equal(fresh.keys, cache.layers[0].keys)
        assert fresh.table is not cache.table


def test_an_encoder_decoder():
    name = next(key for key in ZOO if key.startswith("t5"))
    model, source = make(ZOO[name], "numpy", "float64"), source_of(ZOO[name])
    whole = model(IDS, **source)
    pool = model.new_pool("paged:2", blocks=12)
    cache = pool.new_cache()
    assert close(model(IDS[:5], cache, **source), whole[:5])
    fork = cache.fork()
    assert fork.cross[0].keys is cache.cross[0].keys
    assert close(model(IDS[5:], fork), whole[5:])
    assert close(model(IDS[5:], cache), whole[5:])
    with pytest.raises(UsageError, match="its rows depend on the source as well"):
        pool.reuse(pool.new_cache(), IDS)


def test_generate():
    model = make_model(PRIMES)
    wanted = generate(model, TEXT, max_new_tokens=9, cache="dynamic").ids
    assert generate(model, TEXT, max_new_tokens=9, cache="paged:4").ids == wanted
