"""Crop, fork, select and clear on any policy: what they leave is what a fresh run would have left, or they refuse."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvsim.caches.cache import select
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from tests.arrays.runs import ZOO
from tests.models import CLOSE, PRIMES, make_model

LOSSLESS = ("dynamic", "static:40", "offload:dynamic")


def close(got, wanted):
    return np.abs(got - wanted).max() <= CLOSE["float64"] * np.abs(wanted).max()


class Operations(RuleBasedStateMachine):
    """Random operations on several caches of one model; the model of a cache is the list of its ids."""

    spec = "dynamic"

    def __init__(self):
        super().__init__()
        self.model = make_model(PRIMES)
        self.caches = [self.model.new_cache(self.spec)]
        self.texts = [[]]

    def pick(self, data):
        return data.draw(st.integers(0, len(self.caches) - 1))

    @rule(data=st.data(), new=st.lists(st.integers(0, 100), min_size=1, max_size=9))
    def feed(self, data, new):
        i = self.pick(data)
        if len(self.texts[i]) + len(new) > 40:
            return
        logits = self.model(new, self.caches[i])
        self.texts[i] += new
        assert close(logits, self.model(self.texts[i])[-len(new) :])

    @rule(data=st.data())
    def feed_together(self, data):
        new = [data.draw(st.lists(st.integers(0, 100), min_size=1, max_size=3)) for _ in self.caches]
        if any(len(text) + len(more) > 40 for text, more in zip(self.texts, new, strict=True)):
            return
        out = self.model.batch(list(zip(new, self.caches, strict=True)))
        self.texts = [[*text, *more] for text, more in zip(self.texts, new, strict=True)]
        for text, more, logits in zip(self.texts, new, out, strict=True):
            assert close(logits, self.model(text)[-len(more) :])

    @rule(data=st.data())
    def crop(self, data):
        i = self.pick(data)
        length = data.draw(st.integers(0, len(self.texts[i])))
        self.caches[i].crop(length)
        del self.texts[i][length:]

    @precondition(lambda self: len(self.caches) < 5)
    @rule(data=st.data())
    def fork(self, data):
        i = self.pick(data)
        self.caches.append(self.caches[i].fork())
        self.texts.append(list(self.texts[i]))

    @rule(data=st.data())
    def choose(self, data):
        order = [self.pick(data) for _ in range(data.draw(st.integers(1, 4)))]
        self.caches = select(self.caches, order)
        self.texts = [list(self.texts[i]) for i in order]

    @rule(data=st.data())
    def clear(self, data):
        i = self.pick(data)
        self.caches[i].clear()
        self.texts[i] = []

    @rule(data=st.data())
    def interrupted(self, data):
        """The last layer fails: nothing has changed."""
        i = self.pick(data)
        if len(self.texts[i]) + 2 > 40:
            return

        def fail(*_):
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.caches[i].layers[-1], "update", fail)
            with pytest.raises(KeyboardInterrupt):
                self.model([1, 2], self.caches[i])

    @invariant()
    def says_what_it_has_seen(self):
        for cache, text in zip(self.caches, self.texts, strict=True):
            assert cache.ids == text
            assert cache.seen == len(text)
            assert cache.allocated_bytes == cache.logical_bytes + sum(cache.wasted)
            assert cache.layers[0].keys.shape[1] == len(text)


def test_random_operations_on_dynamic():
    machine = type("Dynamic", (Operations,), {"spec": "dynamic"})
    run(machine)


def test_random_operations_on_static():
    run(type("Static", (Operations,), {"spec": "static:40"}))


def test_random_operations_on_offload():
    run(type("Offload", (Operations,), {"spec": "offload:dynamic"}))


def run(machine):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))


@pytest.mark.parametrize("name", ZOO)
def test_every_small_model_goes_back_and_branches(name):
    """Also windows, latents, cross-attention: back by one step is always possible, and a branch goes its own way."""
    model, source = make(ZOO[name], "numpy", "float64"), source_of(ZOO[name])
    whole = model(IDS, **source)
    by_length = any(kind.rope is not None and kind.rope.kind in ("dynamic", "longrope") for kind in model.config.layers)
    for spec in LOSSLESS:
        cache = model.new_cache(spec)
        model(IDS[:8], cache, **source)
        model([5, 6], cache)
        branch = cache.fork()
        model([7, 8], branch)
        cache.crop(8)
        again = model(IDS[8:], cache)
        assert by_length or close(again, whole[8:]), spec
        assert branch.ids == [*IDS[:8], 5, 6, 7, 8]
        fresh = model.new_cache(spec)
        model([*IDS[:8], 5, 6, 7, 8], fresh, **source)
        assert by_length or close(model([9], branch), model([9], fresh))


def test_a_window_goes_back_as_far_as_its_rows_are_there():
    model = make_model(PRIMES)
    cache = model.new_cache("window:4")
    for i in range(10):
        model([i], cache)
    cache.crop(9)
    with pytest.raises(
        UsageError, match="a window of 4 tokens cannot be cropped to 8: the rows before 6 have been evicted"
    ):
        cache.crop(8)
    assert cache.seen == 9
    fresh = model.new_cache("window:4")
    model(list(range(9)), fresh)
    assert close(model([50], cache), model([50], fresh))


def test_a_crop_that_cannot_be():
    cache = make_model(PRIMES).new_cache()
    make_model(PRIMES)([1, 2, 3], cache)
    with pytest.raises(UsageError, match="cannot crop to 4 tokens: the cache has seen 3"):
        cache.crop(4)
    for length in (-1, 1.5, True, "2"):
        with pytest.raises(UsageError, match="length must be a whole number of at least 0, got"):
            cache.crop(length)
    assert cache.seen == 3
    with pytest.raises(UsageError, match="there is no cache 1: there are 1"):
        select([cache], [0, 1])


def test_forks_share_no_rows():
    model = make_model(PRIMES)
    cache = model.new_cache()
    model([1, 2, 3], cache)
    other = cache.fork()
    kept = cache.layers[0].keys.copy()
    other.layers[0].keys[...] = np.nan
    model([4], other)
    assert np.array_equal(cache.layers[0].keys, kept)


# window:W on a model that has none


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("cuts", [(1,) * 12, (12,), (5, 1, 6), (2, 9, 1)])
def test_a_window_makes_the_model_that_has_it(window, cuts):
    from dataclasses import replace

    from kvsim.loading.random_weights import random_weights
    from kvsim.model import Model

    windowed = replace(PRIMES, layers=tuple(replace(kind, window=window) for kind in PRIMES.layers))
    wanted = Model(windowed, random_weights(PRIMES), dtype="float64")(IDS)
    model = Model(PRIMES, random_weights(PRIMES), dtype="float64")
    cache, parts, start = model.new_cache(f"window:{window}"), [], 0
    for size in cuts:
        parts.append(model(IDS[start : start + size], cache))
        start += size
    assert close(np.concatenate(parts), wanted)
    assert not cache.lossless
    assert cache.layers[0].keys.shape[1] == window - 1
    assert Model(windowed, random_weights(PRIMES)).new_cache(f"window:{window}").lossless


def test_offload_counts_what_a_device_would_copy():
    """Two layers, three heads, rows of ten numbers for keys and for values, eight bytes each."""
    model = make_model(PRIMES)
    cache = model.new_cache("offload:dynamic")
    model([1, 2, 3], cache)
    model([4], cache)
    row = 3 * 20 * 8
    for layer in cache.layers:
        assert (layer.stored_bytes, layer.fetched_bytes) == (4 * row, (3 + 4) * row)
    assert cache.logical_bytes == 2 * 4 * row
    for spec, said in (
        ("offload", "needs a policy"),
        ("offload:none", "cannot be offloaded"),
        ("offload:lru", "unknown cache"),
    ):
        with pytest.raises(UsageError, match=said):
            model.new_cache(spec)


@pytest.mark.dev
def test_offload_copies_where_host_and_device_differ():
    """torch's arrays: rows are NumPy's between steps, and go on in a file."""
    for spec in ("dynamic", "window:5"):
        model = make(PRIMES, "torch", "float64")
        cache, plain = model.new_cache(f"offload:{spec}"), model.new_cache(spec)
        for start, stop in ((0, 7), (7, 8), (8, 12)):
            assert (model(IDS[start:stop], cache) == model(IDS[start:stop], plain)).all()
        assert isinstance(cache.layers[0].keys, np.ndarray)
        assert cache.logical_bytes == plain.logical_bytes
        assert (model([5], cache.fork()) == model([5], plain)).all()
    with pytest.raises(UsageError, match="cannot be stored on the host"):
        make(PRIMES, "torch", "bfloat16").new_cache("offload:dynamic")


@pytest.mark.parametrize("spec", ["dynamic", "window:4", "sinks:2+3", "int8:group=2,residual=2", "h2o:4", "paged:4"])
def test_a_fork_after_an_interrupted_step_is_a_fork_before_it(spec):
    model = make_model(PRIMES)
    cache = model.new_cache(spec)
    model([1, 2, 3, 4, 5, 6], cache)
    before = cache.fork()

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache.layers[-1], "update", fail)
        with pytest.raises(KeyboardInterrupt):
            model([7, 8, 9], cache)
    assert [layer.keys.shape for layer in cache.layers] == [layer.keys.shape for layer in before.layers]
    wanted = model([10, 11], before)
    assert np.array_equal(model([10, 11], cache.fork()), wanted)
    assert np.array_equal(model([10, 11], cache), wanted)
