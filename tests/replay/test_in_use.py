"""When steps are recorded, and what users do to a model, its caches and its threads meanwhile."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.caches.dynamic import DynamicLayer
from kvsim.caches.window import WindowLayer
from kvsim.replay import replays
from kvsim.spans import Span
from tests.models import PRIMES
from tests.replay.common import assert_same_step, both, programs_of


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


def test_prepare_has_the_next_step_recorded(monkeypatch):
    monkeypatch.setattr(replays, "RECORD_AFTER", 16)
    model, _ = both(PRIMES)
    cache = model.new_cache()
    model.prepare(cache)
    model([5], cache)
    assert len(programs_of(model)) == 1


def test_the_program_that_was_not_looked_up_for_longest_goes():
    """`static` of any size is one kind; a window of another size is another program."""
    model, _ = both(PRIMES)
    for size in range(10, 20):
        model([5], model.new_cache(f"static:{size}"))
    assert len(programs_of(model)) == 1
    for size in range(2, replays.KEPT + 1):
        model([5], model.new_cache(f"window:{size}"))
    first, windows = programs_of(model)[-1], list(programs_of(model)[:-1])
    model([5], model.new_cache("static:64"))
    model([5], model.new_cache("window:40"))
    assert programs_of(model)[1:] == [first, *windows[:-1]]


def test_threads_do_not_share_a_step():
    """Each feeds a cache of its own through one model, by programs of its own."""
    config = replace(PRIMES, d_ff=4099, vocab_size=4099)  # products long enough for the threads to meet
    model, plain = both(config)
    model([5], model.new_cache())

    def run(i, model=model):
        cache = model.new_cache()
        return np.concatenate([model([j], cache) for j in (i, *range(40))])

    wanted = [run(i, plain) for i in range(4)]

    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(run, range(4)), wanted, strict=True):
            assert np.array_equal(got, expected)


def feed_by_turns(recorded, plain, make_layers):
    """Steps through caches whose layers somebody made by hand: the same, or what has no program."""
    cache, other = recorded.new_cache(), plain.new_cache()
    for model, held in ((recorded, cache), (plain, other)):
        assert_same_step(recorded, plain, [3], recorded.new_cache(), plain.new_cache())
        held.layers = make_layers(model.ops, held.layers[0].shape)
    for i in range(9):
        assert_same_step(recorded, plain, [i], cache, other)
    assert_same_step(recorded, plain, [3, 4, 5], cache, other)


def test_layers_of_a_users_own_and_mixed_ones():
    class OnRead(DynamicLayer):
        """Keeps raw rows and encodes all of them at every step."""

        encodes_on_read = True

        def update(self, keys, values, pos, encode):
            view = super().update(keys, values, pos, lambda keys, values, pos: (keys, values))
            keys, values = encode(view.keys, view.values, Span(0, pos.stop))
            return view._replace(keys=keys, values=values)

    class HalfSpeed(DynamicLayer):
        def update(self, keys, values, pos, encode):
            return super().update(
                keys, values, pos, lambda k, v, at: encode(k, v, Span(at.start // 2, at.start // 2 + at.size))
            )

    recorded, plain = both(PRIMES)
    feed_by_turns(recorded, plain, lambda ops, shape: [OnRead(ops, shape) for _ in range(2)])
    feed_by_turns(recorded, plain, lambda ops, shape: [HalfSpeed(ops, shape) for _ in range(2)])
    feed_by_turns(recorded, plain, lambda ops, shape: [DynamicLayer(ops, shape), WindowLayer(ops, shape, 3)])
    feed_by_turns(recorded, plain, lambda ops, shape: [WindowLayer(ops, shape, 5), WindowLayer(ops, shape, 3)])
    feed_by_turns(recorded, plain, lambda ops, shape: [DynamicLayer(ops, shape), OnRead(ops, shape)])
    assert programs_of(recorded)


def test_what_cannot_be_recorded_goes_on_and_says_why():
    recorded, plain = both(replace(PRIMES, logit_scale=np.float64(0.5)), "float32")
    cache, other = recorded.new_cache(), plain.new_cache()
    for i in range(3):
        assert_same_step(recorded, plain, [i], cache, other)
    (reason,) = recorded._replays.refused.values()
    assert isinstance(reason, TypeError)


def test_weights_that_were_replaced_are_recorded_anew():
    model, other = kvsim.load("demo"), kvsim.load("demo", dtype="float32")
    model([5], model.new_cache())
    other.weights.final_norm.gain[...] *= 2.0
    model.weights = other.weights
    other._replays = None
    assert np.array_equal(model([5], model.new_cache()), other([5], other.new_cache()))


def test_another_config_scopes_and_copies():
    recorded, plain = both(PRIMES)
    cache, other = recorded.new_cache(), plain.new_cache()
    assert_same_step(recorded, plain, [5], cache, other)
    with recorded.ops.at("draft"), plain.ops.at("draft"):
        assert_same_step(recorded, plain, [6], cache, other)
    recorded.config = plain.config = replace(PRIMES, logit_scale=0.5)
    assert_same_step(recorded, plain, [7], cache, other)
    copied = copy.deepcopy(recorded)
    assert copied._replays.programs == []
    wanted = plain([5], plain.new_cache())  # not bit for bit: a copy's matrices are no longer one array
    assert np.abs(copied([5], copied.new_cache()) - wanted).max() <= 1e-12 * np.abs(wanted).max()


def test_a_step_inside_a_step_has_arrays_of_its_own():
    """A cache that asks the model in the middle of its own step."""
    model, plain = both(PRIMES)
    wanted = plain([5], plain.new_cache())
    inner = []

    class Asking(DynamicLayer):
        def preview(self, pos):
            return super().preview(pos)

        def update(self, keys, values, pos, encode):
            inner.append(model([9], model.new_cache()))
            return super().update(keys, values, pos, encode)

    model([5], model.new_cache())
    cache = model.new_cache()
    cache.layers = [Asking(layer.ops, layer.shape) for layer in cache.layers]
    assert np.array_equal(model([5], cache), wanted)
    assert [np.array_equal(x, plain([9], plain.new_cache())) for x in inner] == [True, True]


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
