"""Caches: rows held, bytes, refused calls, and the state after a step that failed."""

from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.caches.base import Waste
from kvsim.costs.bytes.memory import measure_memory
from kvsim.errors import UsageError
from tests.models import CLOSE, PRIMES, make_model

ROW = 2 * PRIMES.n_layers * PRIMES.n_kv_heads * PRIMES.d_head * 8  # bytes of a token in float64


@pytest.mark.parametrize("spec", ["dynamic", "static:40"])
def test_what_is_held(spec):
    model = make_model(PRIMES)
    cache = model.new_cache(spec)
    shape = (PRIMES.n_kv_heads, 0, PRIMES.d_head)
    assert cache.seen == 0
    assert cache.layers[0].keys.shape == cache.layers[0].values.shape == shape
    model(list(range(7)), cache)
    model([7], cache)
    assert cache.seen == 8
    for layer in cache.layers:
        assert layer.keys.shape == layer.values.shape == (PRIMES.n_kv_heads, 8, PRIMES.d_head)
    assert cache.logical_bytes == 8 * ROW == sum(x.keys.nbytes + x.values.nbytes for x in cache.layers)
    assert cache.allocated_bytes == sum(x._keys.nbytes + x._values.nbytes for x in cache.layers)
    assert cache.allocated_bytes == (40 if spec == "static:40" else 8) * ROW


@pytest.mark.parametrize("tokens", [1, 3, 4, 9])
def test_static_counts_the_rows_in_a_window_as_in_use(tokens):
    """As `dynamic`, `paged` and the planner do; the rows before the window are kept for `crop`."""
    windows = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=4), PRIMES.layers[1]))
    model, row = make_model(windows), ROW // PRIMES.n_layers
    cache, others = model.new_cache("static:40"), [model.new_cache(spec) for spec in ("dynamic", "paged:4")]
    for held in (cache, *others):
        model(list(range(tokens)), held)
    used = min(tokens, 3)
    for held in (cache, cache.fork(), *others):
        assert [layer.logical_bytes for layer in held.layers] == [used * row, tokens * row]
    assert cache.layers[0].waste == Waste(reserved=(40 - tokens) * row, external=(tokens - used) * row)
    assert cache.layers[1].waste == Waste(reserved=(40 - tokens) * row)
    assert cache.allocated_bytes == cache.logical_bytes + sum(cache.wasted) == 40 * ROW
    planned = [measure_memory(windows, [tokens], dtype="float64").contexts[0].logical]
    planned += [
        kvsim.count(windows, prompt=tokens, dtype="float64", cache=x).kv_bytes for x in ("static:40", "dynamic")
    ]
    assert planned == [cache.logical_bytes] * 3
    assert cache.layers[0].fresh().waste == Waste(reserved=40 * row)
    cache.crop(1)
    assert cache.logical_bytes == ROW


def test_none_holds_nothing():
    model = make_model(PRIMES)
    cache = model.new_cache("none")
    model([1, 2, 3], cache)
    assert (cache.seen, cache.logical_bytes, cache.allocated_bytes) == (0, 0, 0)
    assert cache.layers[0].keys.shape == (PRIMES.n_kv_heads, 0, PRIMES.d_head)


def test_dynamic_allocates_rarely_and_static_once(monkeypatch):
    """Deterministic cost: 60 steps make log2(64) + 1 allocations for each layer's keys and values."""
    model = make_model(PRIMES)
    made = []
    empty = np.empty

    class Counting:
        def __getattr__(self, name):
            return getattr(np, name)

        def empty(self, shape, **options):
            made.append(shape)
            return empty(shape, **options)

    monkeypatch.setattr(model.ops, "xp", Counting())
    for spec, allocations in (("dynamic", 8), ("static:60", 1)):
        made.clear()
        cache = model.new_cache(spec)
        for i in range(60):
            model([i], cache)
        assert len(made) == allocations * 2 * PRIMES.n_layers


def test_a_step_writes_its_own_rows_only():
    model = make_model(PRIMES)
    cache = model.new_cache("static:8")
    model([1, 2, 3], cache)
    before = cache.layers[1]._keys.copy()
    before[:, 3] = np.nan
    cache.layers[1]._keys[:, 4:] = 7.0
    before[:, 4:] = 7.0
    model([4], cache)
    after = cache.layers[1]._keys
    assert np.array_equal(after[:, :3], before[:, :3])
    assert np.array_equal(after[:, 4:], before[:, 4:])


def test_unfilled_slots_are_never_read():
    model = make_model(PRIMES)
    cache = model.new_cache("static:16")
    for layer in cache.layers:
        layer._keys[...] = np.nan
        layer._values[...] = np.nan
    assert np.isfinite(model([1, 2, 3], cache)).all()
    assert np.isfinite(model([4], cache)).all()


def test_a_full_static_cache_says_what_to_do():
    model = make_model(PRIMES)
    cache = model.new_cache("static:40")
    model(list(range(40)), cache)
    with pytest.raises(UsageError) as caught:
        model([1], cache)
    assert str(caught.value) == ('the static cache holds 40 tokens, asked for 41: use "static:64" or "dynamic"')
    assert cache.seen == 40


def test_an_interrupted_step_leaves_nothing_behind(monkeypatch):
    """The second layer fails: the next step overwrites the rows that the first has written."""
    model = make_model(PRIMES)
    ids = [5, 6, 7, 8, 9]
    cache = model.new_cache("dynamic")
    model(ids[:3], cache)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(cache.layers[1]), "_make_room", fail)
        with pytest.raises(KeyboardInterrupt):
            model([50, 51], cache)
    assert cache.seen == 3
    whole = model(ids)
    assert np.abs(model(ids[3:], cache) - whole[3:]).max() <= CLOSE["float64"] * np.abs(whole).max()


def test_a_cache_belongs_to_one_model_and_one_sequence():
    model, other = make_model(PRIMES), make_model(PRIMES, seed=1)
    with pytest.raises(UsageError, match="made for another model"):
        other([1], model.new_cache())
    cache = model.new_cache()
    with pytest.raises(UsageError, match="two sequences feed one cache"):
        model.batch([([1], cache), ([2], cache)])
    assert cache.seen == 0


def test_a_refused_batch_changes_no_cache():
    model = make_model(PRIMES)
    good, small = model.new_cache(), model.new_cache("static:1")
    with pytest.raises(UsageError, match="static cache holds 1"):
        model.batch([([1, 2], good), ([1, 2], small)])
    assert (good.seen, small.seen) == (0, 0)
