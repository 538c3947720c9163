"""Recorded steps against the steps that were not: the same bits, the same events, whatever happens between them."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.arrays import get_backend
from kvsim.doctor.against_numpy import IDS
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs
from tests.replay.common import assert_same_step, both, is_alike, programs_of

SPECS = ("dynamic", "static:64", "window:5", "paged:4", "int8:residual=4,group=2,head")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ZOO)
def test_every_family_gives_the_same_bits_and_events(name, dtype):
    config = ZOO[name]
    recorded, plain = both(config, dtype)
    assert (recorded._replays is not None) == is_alike(config)
    if config.encoder is not None:
        return
    for spec in SPECS:
        try:
            cache, other = recorded.new_cache(spec), plain.new_cache(spec)
        except UsageError:
            continue  # a model that the policy does not fit: tests/caches/test_every_policy.py
        for i in IDS:
            assert_same_step(recorded, plain, [i], cache, other)
        if is_alike(config):
            _, program, layers = cache.fitted
            assert program in programs_of(recorded)
            assert layers == tuple(cache.layers)


@settings(max_examples=60)
@given(config=configs(), data=st.data())
def test_any_model_and_any_order_of_steps(config, data):
    """Two caches of one model, fed by turns, some steps of several tokens, cut back and forked in between."""
    spec = data.draw(st.sampled_from(SPECS[:4]))
    recorded, plain = both(config, data.draw(st.sampled_from(["float64", "float32"])), data.draw(st.integers(0, 3)))
    pairs = [(recorded.new_cache(spec), plain.new_cache(spec)) for _ in range(2)]
    for _ in range(data.draw(st.integers(1, 10))):
        which = data.draw(st.integers(0, 1))
        one, other = pairs[which]
        what = data.draw(st.sampled_from(["step", "step", "step", "chunk", "crop", "fork", "clear"]))
        if what in ("step", "chunk"):
            size = 1 if what == "step" else data.draw(st.integers(2, 5))
            if one.seen + size <= config.max_context:
                ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=size, max_size=size))
                assert_same_step(recorded, plain, ids, one, other)
        elif what == "crop":
            length = data.draw(st.integers(0, one.seen))
            try:
                one.crop(length)
            except UsageError:
                continue
            other.crop(length)
        elif what == "clear":
            one.clear()
            other.clear()
        else:
            pairs[1 - which] = one.fork(), other.fork()
    programs_of(recorded)


def test_a_windowed_layer_under_a_cache_that_keeps_every_row():
    """`static` shows all rows, the mask leaves out those before the window: recorded with its mask, in two parts."""
    for name in ("mistral", "gemma3", "qwen2_windows"):
        recorded, plain = both(ZOO[name])
        cache, other = recorded.new_cache("static:64"), plain.new_cache("static:64")
        for i in IDS:
            assert_same_step(recorded, plain, [i], cache, other)
        assert len({(p.lo, p.hi) for p in programs_of(recorded)}) > 1


def test_16_bits_the_plain_operations_and_other_libraries_record_nothing():
    weights = random_weights(PRIMES)
    plain = get_backend("numpy")._replace(in_place=False)
    for backend, dtype in (("numpy", "float16"), (plain, "float64"), ("exact", "float64")):
        assert Model(PRIMES, weights, backend=backend, dtype=dtype)._replays is None


def test_logits_are_the_callers_own_and_no_row_of_a_cache_is_held():
    model = kvsim.load("demo")
    cache = model.new_cache()
    first = model([5], cache)
    kept = first.copy()
    second = model([6], cache)
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)
    rows = weakref.ref(cache.layers[0]._keys)
    cache.clear()
    assert rows() is None
    model([7], cache)
    rows = weakref.ref(cache.layers[0]._keys)
    del cache
    gc.collect()
    assert rows() is None


def test_who_watches_sees_and_ledgers_nest():
    model = kvsim.load("demo")
    cache = model.new_cache()
    model([5], cache)
    with model.count() as outer:
        model([6], cache)
        with model.count() as inner:
            model([7], cache)
            with model.watch("layers.*.probs") as seen:
                model([8], cache)
        model([9, 10], cache)
        model([11], cache)
        model([12], cache)
    assert seen["layers.0.probs"].shape == (2, 2, 1, 4)
    assert outer.macs == sum(event.macs for event in list(outer))
    scores = [[event.n for event in ledger if event.site == "layers.0.scores"] for ledger in (outer, inner)]
    assert scores == [[2, 3, 4, 6, 7, 8], [3, 4]]


def test_two_caches_by_turns_on_both_sides_of_a_window():
    for name in ("mistral", "gemma3", "qwen2_windows"):
        recorded, plain = both(ZOO[name])
        pairs = [(recorded.new_cache(), plain.new_cache()) for _ in range(2)]
        assert_same_step(recorded, plain, IDS[:7], *pairs[0])
        for i in IDS:
            for pair in pairs:
                assert_same_step(recorded, plain, [i], *pair)
