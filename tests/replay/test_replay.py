"""Recorded steps against the steps that were not: the same bits, the same events, whatever happens between them."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.arrays import get_backend
from kvsim.caches.dynamic import DynamicLayer
from kvsim.caches.static import StaticLayer
from kvsim.comparison import IDS
from kvsim.config import BY_LENGTH
from kvsim.counting.events import PROJECTIONS
from kvsim.counting.repeated import Repeated
from kvsim.counting.symbolic import Poly
from kvsim.errors import KvsimError, UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.replay import replays
from kvsim.replay.program import Program
from kvsim.replay.recording import Call, Tape
from kvsim.spans import Span
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs

SPECS = ("dynamic", "static:64", "window:5", "paged:4", "int8:residual=4,group=2,head")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Every step that can have a program has one."""
    monkeypatch.setattr(replays, "RECORD_AFTER", 0)


def both(config, dtype="float64", seed=0):
    """A model that records, and one that never does."""
    weights = random_weights(config, seed)
    recorded, plain = (Model(config, weights, backend="numpy", dtype=dtype) for _ in range(2))
    plain._replays = None
    return recorded, plain


def assert_same_step(recorded, plain, ids, cache, other):
    with recorded.count() as ledger:
        got = recorded(ids, cache)
    with plain.count() as wanted:
        expected = plain(ids, other)
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected), np.abs(got - expected).max()
    assert (ledger.macs, ledger.useful_macs) == (wanted.macs, wanted.useful_macs)
    assert ledger.events == wanted.events
    assert cache.ids == other.ids
    assert cache.allocated_bytes == other.allocated_bytes


def programs_of(model):
    return [] if model._replays is None else [p for kept in model._replays.programs.values() for p in kept]


def is_alike(config):
    """Are steps of one token alike, by what the configuration says?"""
    ropes = [kind.rope.kind for kind in config.layers if kind.rope is not None]
    mixed = any(kind.experts is not None for kind in config.layers)
    return config.encoder is None and not mixed and not set(ropes) & set(BY_LENGTH)


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
            assert (cache.spec, type(cache.layers[0])) in recorded._replays.programs


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


def test_a_windowed_layer_under_a_cache_that_keeps_every_row():
    """`static` shows all rows, the mask leaves out those before the window: recorded with its mask, in two parts."""
    for name in ("mistral", "gemma3", "qwen2_windows"):
        recorded, plain = both(ZOO[name])
        cache, other = recorded.new_cache("static:64"), plain.new_cache("static:64")
        for i in IDS:
            assert_same_step(recorded, plain, [i], cache, other)
        assert len({(p.lo, p.hi) for p in programs_of(recorded)}) > 1


def test_a_step_is_recorded_when_it_has_come_often_enough(monkeypatch):
    monkeypatch.setattr(replays, "RECORD_AFTER", 3)
    model, _ = both(PRIMES)
    cache = model.new_cache()
    for i in range(6):
        model([i], cache)
        assert bool(programs_of(model)) == (i >= 3)
    model([1], model.new_cache())
    model([1, 2], cache)
    assert len(programs_of(model)) == 1


def test_16_bits_the_plain_operations_and_other_libraries_record_nothing():
    weights = random_weights(PRIMES)
    plain = get_backend("numpy")._replace(in_place=False)
    for backend, dtype in (("numpy", "float16"), (plain, "float64"), ("exact", "float64")):
        assert Model(PRIMES, weights, backend=backend, dtype=dtype)._replays is None


def test_the_products_of_a_program_are_its_events():
    """Every product is told, and nothing else: query, key and value are three events of one product."""
    model = kvsim.load("demo")
    model([5], model.new_cache())
    (program,) = programs_of(model)
    products = [c for c in program.tape if isinstance(c, Call) and getattr(c.function, "__name__", "") == "matmul"]
    events = program.events.at(0)
    inside = sum(event.kind in (*PROJECTIONS[1:], "up") for event in events)
    assert len(products) == len(events) - inside == 13


def test_logits_are_the_callers_own_and_no_row_of_a_cache_is_held():
    model = kvsim.load("demo")
    cache = model.new_cache()
    first = model([5], cache)
    kept = first.copy()
    second = model([6], cache)
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)
    rows = weakref.ref(cache.layers[0]._keys)
    del cache
    gc.collect()
    assert rows() is None


def test_weights_that_were_replaced_are_recorded_anew():
    model, other = kvsim.load("demo"), kvsim.load("demo", dtype="float32")
    model([5], model.new_cache())
    other.weights.final_norm.gain[...] *= 2.0
    model.weights = other.weights
    other._replays = None
    assert np.array_equal(model([5], model.new_cache()), other([5], other.new_cache()))


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


def test_calls_on_arrays_that_grow():
    """One array that grows with t, written over by another, and shown by its numbers."""
    model = kvsim.load("demo")
    tape, t = Tape(), Poly((0, 1), 0, 50)
    xp = tape.namespace(model.ops.xp)
    token = tape.given((1,), "int64")
    x, y = xp.arange(0, t + 2, dtype="float64"), xp.arange(1, t + 3, dtype="float64")
    x += y
    x *= xp.astype(token, "float64")
    result = xp.reshape(xp.concat([x, y]), (2, t + 2))[:, 1 : t + 1]
    program = Program(tape.calls, token, result, Repeated([]), 0, 50)
    for n in (3, 0, 7):
        made = program.run(4, Span(n, n + 1), ())
        first, second = np.arange(n + 2.0), np.arange(1.0, n + 3.0)
        assert np.array_equal(made, np.stack([4 * (first + second), second])[:, 1 : n + 1])


@pytest.mark.parametrize("name", ZOO)
def test_every_array_of_a_program_is_of_the_dtype_that_was_recorded(name):
    """One wider number in an expression would promote every product after it."""
    if not is_alike(ZOO[name]):
        return
    model, _ = both(ZOO[name], "float32")
    model([5], model.new_cache())
    (program,) = programs_of(model)
    products = [call for call in program.called if getattr(getattr(call, "function", None), "__name__", "") == "matmul"]
    assert len(products) > 6 * model.config.n_layers
    assert {x.dtype for call in products for x in (*call.arguments, call.result)} == {"float32"}
    recorded = {id(call.result): call.result.dtype for call in program.tape if isinstance(call, Call)}
    fixed = [(array.dtype, recorded[i]) for i, array in program._fixed.items() if i in recorded]
    assert fixed
    assert [pair for pair in fixed if pair[0] != pair[1]] == []


def test_threads_do_not_share_a_step():
    """Each feeds a cache of its own through one model; a program that is at work elsewhere is not waited for."""
    config = replace(PRIMES, d_ff=4099, vocab_size=4099)  # products long enough for the threads to meet
    model, plain = both(config)
    model([5], model.new_cache())
    wanted = [plain([i, *range(40)]) for i in range(4)]

    def run(i):
        cache = model.new_cache()
        return np.concatenate([model([j], cache) for j in (i, *range(40))])

    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(run, range(4)), wanted, strict=True):
            assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()


def test_programs_of_many_kinds_are_dropped_and_wait_again(monkeypatch):
    model, _ = both(PRIMES)
    for size in range(10, 10 + replays.KEPT + 1):
        model([5], model.new_cache(f"static:{size}"))
    assert len(model._replays.programs) == replays.KEPT
    monkeypatch.setattr(replays, "RECORD_AFTER", 1)
    model([5], model.new_cache("static:10"))
    assert ("static:10", StaticLayer) not in model._replays.programs
    model([5], model.new_cache("static:10"))
    assert ("static:10", StaticLayer) in model._replays.programs


def test_what_was_recorded_is_shown_or_refused():
    """A cache that shows other positions than its policy said is not multiplied in silence, and the step is undone."""

    class Forgetful(DynamicLayer):
        def update(self, keys, values, pos, encode):
            view = super().update(keys, values, pos, encode)
            return view._replace(key_pos=Span(1, pos.stop), keys=view.keys[:, 1:, :], values=view.values[:, 1:, :])

    model, _ = both(PRIMES)
    cache = model.new_cache()
    cache.layers = [Forgetful(layer.ops, layer.shape) for layer in cache.layers]
    with pytest.raises(KvsimError, match="its preview and its update must agree"):
        model([5], cache)
    assert (cache.seen, cache.layers[0].rows) == (0, 0)


def test_a_step_that_was_interrupted_is_taken_again(monkeypatch):
    recorded, plain = both(PRIMES)
    cache, other = recorded.new_cache(), plain.new_cache()
    assert_same_step(recorded, plain, [5], cache, other)
    update = DynamicLayer.update

    def interrupted(self, keys, values, pos, encode):
        if self is cache.layers[1]:
            raise KeyboardInterrupt
        return update(self, keys, values, pos, encode)

    with monkeypatch.context() as patch:
        patch.setattr(DynamicLayer, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorded([6], cache)
    assert cache.seen == 1
    for i in (7, 8):
        assert_same_step(recorded, plain, [i], cache, other)
