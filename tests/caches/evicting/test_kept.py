"""`h2o:B`, `snapkv:B`, `knorm:B`: contents, bytes, crops and refusals, backends."""

from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.caches.window import WindowLayer
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import ZOO, backend_of
from tests.caches.common import NAMES, TURNING, assert_close, random_ids
from tests.models import GPT2_LIKE, PRIMES, make_model
from tests.transformer.test_split_invariance import feed

# What is held


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_the_arrays(name, dtype):
    model = make_model(PRIMES, dtype)
    cache = model.new_cache(f"{name}:6")
    for new in (IDS[:4], IDS[4:9], IDS[9:10], IDS[10:11]):
        logits = model(new, cache)
        assert logits.dtype == dtype
        rows = [x.keys.nbytes + x.values.nbytes for x in cache.layers]
        assert sum(rows) == cache.logical_bytes == cache.allocated_bytes
        beside = sum(x._old.nbytes for x in cache.layers)
        if name != "snapkv":
            beside += sum(x._scores.nbytes for x in cache.layers)
            assert cache.layers[0]._scores.dtype == ("float64" if dtype == "float64" else "float32")
        assert cache.metadata_bytes == beside
        assert cache.wasted == (0, 0, 0)
    assert cache.layers[0].keys.shape == (3, 8 if name == "snapkv" else 6, 10)
    assert cache.layers[0].positions.dtype == np.int64


def test_layers_with_a_window_keep_it():
    windowed = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=3), PRIMES.layers[1]))
    for name in NAMES:
        cache = make_model(windowed).new_cache(f"{name}:6")
        assert [type(layer) is WindowLayer for layer in cache.layers] == [True, False]
        assert not cache.lossless
    windowed = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=3),) * 2)
    model = make_model(windowed)
    cache = model.new_cache("h2o:6")
    assert cache.lossless
    assert_close(feed(model, cache, IDS, [5, 7]), model(IDS))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_within_the_budget(name):
    model = make_model(TURNING)
    assert_close(feed(model, model.new_cache(f"{name}:12"), IDS, [5, 1, 6]), model(IDS))


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_step_can_be_run_again(name):
    """Rows and scores of a step count once."""
    model = make_model(TURNING)
    smooth, cache = model.new_cache(f"{name}:5"), model.new_cache(f"{name}:5")
    start = 0

    def fail(*_):
        raise KeyboardInterrupt

    for size in (4, 3, 1, 3, 1):
        new = IDS[start : start + size]
        for failing in ([1], [1, 2, 3, 4], new):
            cache.layers[1].update = fail
            with pytest.raises(KeyboardInterrupt):
                model(failing, cache)
            del cache.layers[1].update
        fork = cache.fork()
        wanted = model(new, smooth)
        assert np.array_equal(model(new, fork), wanted)
        assert np.array_equal(model(new, cache), wanted)
        start += size
        for layer, other in zip(cache.layers, smooth.layers, strict=True):
            assert layer.positions.tolist() == other.positions.tolist()
            assert np.array_equal(layer.keys, other.keys)
            assert layer.metadata_bytes == other.metadata_bytes
            if name == "h2o":
                assert np.array_equal(layer._scores, other._scores)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_eviction_is_undone(name, monkeypatch):
    """The first layer has evicted rows, the second has not: both return to the rows before the step."""
    model = make_model(TURNING)
    cache, calm = model.new_cache(f"{name}:5"), model.new_cache(f"{name}:5")
    for held in (cache, calm):
        model(IDS[:4], held)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.layers[1], "commit", fail)
    with pytest.raises(KeyboardInterrupt):
        model(IDS[4:8], cache)
    monkeypatch.undo()
    for new in (IDS[4:8], IDS[8:9], IDS[9:12]):
        fork, wanted = cache.fork(), model(new, calm)
        assert np.array_equal(model(new, cache), wanted)
        assert np.array_equal(model(new, fork), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_fork_goes_its_own_way(name):
    model = make_model(TURNING)
    wanted = feed(model, model.new_cache(f"{name}:5"), IDS, [7, 1, 4])
    cache = model.new_cache(f"{name}:5")
    feed(model, cache, IDS, [7, 1])
    for layer in cache.layers:
        state = layer.state()
        assert all(type(number) is int for number in state.numbers.values())
        copied = layer.fresh()
        copied.restore(state)
        for one in copied.state().arrays.values():
            assert not any(np.shares_memory(one, x) for x in vars(layer).values() if isinstance(x, np.ndarray))
    fork = cache.fork()
    model([50] * 4, fork)
    again = cache.fork()
    assert np.array_equal(model(IDS[8:], cache), wanted[8:])
    assert np.array_equal(model(IDS[8:], again), wanted[8:])
    cache.clear()
    assert cache.metadata_bytes == cache.logical_bytes == 0
    assert np.array_equal(feed(model, cache, IDS, [7, 1, 4]), wanted)


@pytest.mark.parametrize("name", ["snapkv", "knorm"])
def test_a_crop_before_anything_was_let_go(name):
    model = make_model(TURNING)
    cache = model.new_cache(f"{name}:6")
    feed(model, cache, [*IDS[:3], 50, 51], [3, 2])
    cache.crop(3)
    wanted = model.new_cache(f"{name}:6")
    assert np.array_equal(feed(model, cache, IDS[3:], [1, 8]), feed(model, wanted, IDS, [3, 1, 8])[3:])
    assert cache.layers[0].positions.tolist() == wanted.layers[0].positions.tolist()
    with pytest.raises(UsageError, match=f"the cache {name}:6 cannot be cropped to 11 tokens: later tokens decided"):
        cache.crop(11)
    assert cache.seen == 12


def test_h2o_cannot_go_back():
    model = make_model(TURNING)
    cache = model.new_cache("h2o:6")
    model([1, 2, 3], cache)
    cache.crop(3)
    with pytest.raises(UsageError, match="the cache h2o:6 cannot be cropped to 2 tokens: what later tokens added"):
        cache.crop(2)


# Where it runs


@pytest.mark.parametrize(("name", "budget", "sizes"), [*((n, 4, (8, 1, 3)) for n in NAMES), ("snapkv", 40, (45, 1, 3))])
def test_blocked_attention_is_the_same(name, budget, sizes):
    """The observer sees the queries in blocks, with the columns that each block may see."""
    blocked = Model(TURNING, random_weights(TURNING), dtype="float64", attention="blocked")
    blocked.ops.query_block = 3
    model, ids, start = make_model(TURNING), random_ids(TURNING, sum(sizes)), 0
    one, other = model.new_cache(f"{name}:{budget}"), blocked.new_cache(f"{name}:{budget}")
    for size in sizes:
        new = ids[start : start + size]
        assert_close(blocked(new, other), model(new, one))
        assert one.layers[1].positions.tolist() == other.layers[1].positions.tolist()
        start += size


@pytest.mark.parametrize("backend", ["strict", "exact", pytest.param("torch", marks=pytest.mark.dev)])
@pytest.mark.parametrize("config", [TURNING, GPT2_LIKE, ZOO["deepseek_v2"], ZOO["mpt_clipped"]], ids=lambda c: c.family)
@pytest.mark.parametrize("name", NAMES)
def test_backends(name, config, backend):
    if config.latent is not None and name == "knorm":
        config = replace(config, latent=replace(config.latent, form="cached_expanded"))
    there, here = (
        Model(config, random_weights(config), backend=b, dtype="float64") for b in (backend_of(backend), None)
    )
    caches, start = [model.new_cache(f"{name}:4") for model in (there, here)], 0
    to_host = there.ops.backend.to_host
    for size in (5, 1, 4, 1):
        new = IDS[start : start + size]
        assert_close(to_host(there(new, caches[0])), here(new, caches[1]))
        start += size
        for layer, other in zip(*(cache.layers for cache in caches), strict=True):
            assert to_host(layer.positions).tolist() == other.positions.tolist()
        assert caches[0].metadata_bytes == caches[1].metadata_bytes
    assert_close(to_host(there([1], caches[0].fork())), here([1], caches[1].fork()))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_alone_cannot_choose(name):
    model = Model(PRIMES, random_weights(PRIMES), backend="meta", dtype="float32")
    cache = model.new_cache(f"{name}:4")
    model(IDS[:4], cache)
    with pytest.raises(UsageError, match="shapes and no values"):
        model(IDS[4:6], cache)


@pytest.mark.parametrize("name", ["bart", "whisper"])
def test_cross_layers_are_as_they_were(name):
    model = make(ZOO[name], "numpy", "float64")
    source = source_of(model.config)
    cache, whole = model.new_cache("h2o:4"), model.new_cache("dynamic")
    for held in (cache, whole):
        model(IDS[:3], held, **source)
        model(IDS[3:9], held)
    assert np.array_equal(cache.cross[0].keys, whole.cross[0].keys)
    assert cache.layers[0].keys.shape[1] == 4


def test_sequences_of_a_batch_keep_their_own():
    model = make_model(TURNING)
    pairs = [(IDS[:9], model.new_cache("h2o:4")), (IDS[3:6], model.new_cache("knorm:2"))]
    alone = [model(ids, model.new_cache(cache.spec)) for ids, cache in pairs]
    for got, wanted in zip(model.batch(pairs), alone, strict=True):
        assert_close(got, wanted)
    assert [cache.layers[0].keys.shape[1] for _, cache in pairs] == [4, 2]


@pytest.mark.parametrize("name", [*NAMES, "sinks"])
def test_generation(name):
    spec = "sinks:2+4" if name == "sinks" else f"{name}:6"
    run = kvsim.generate(make_model(TURNING), IDS, max_new_tokens=12, cache=spec)
    assert len(run.ids) == 24
    with pytest.raises(UsageError, match="is lossy"):
        kvsim.trace(IDS, model=make_model(TURNING), cache=spec)
