"""`sinks:S+W`: what is held, and what can be taken back."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.caches.window import WindowLayer
from kvsim.doctor.against_numpy import IDS
from kvsim.errors import UsageError
from tests.caches.common import TURNING, assert_close
from tests.models import PRIMES, cuts, make_model
from tests.transformer.test_split_invariance import feed


def test_what_is_held():
    model = make_model(TURNING)
    cache, whole = model.new_cache("sinks:2+4"), model.new_cache("dynamic")
    row = cache.layers[0].shape.row_bytes(model.ops)
    model(IDS[:9], cache)
    model(IDS[:9], whole)
    layer = cache.layers[0]
    assert layer.keys.shape == (3, 2 + 3, 10)
    assert np.array_equal(layer.values, whole.layers[0].values[:, [0, 1, 6, 7, 8], :])
    assert np.array_equal(layer.keys[:, 0, :], whole.layers[0].keys[:, 0, :])  # at position 0 nothing turns
    assert not np.array_equal(layer.keys[:, 1, :], whole.layers[0].keys[:, 1, :])  # not encoded
    assert (cache.logical_bytes, cache.metadata_bytes) == (2 * 5 * row, 0)
    assert cache.allocated_bytes == sum(x._keys.nbytes + x._values.nbytes for x in cache.layers) == 2 * 9 * row
    assert cache.wasted == (0, 0, cache.allocated_bytes - cache.logical_bytes)
    model(IDS[9:10], cache)
    assert layer.keys.shape == (3, 5, 10)
    assert cache.allocated_bytes == 2 * 6 * row
    assert not cache.lossless


def test_layers_with_a_window_keep_it():
    windowed = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=3), PRIMES.layers[1]))
    assert [type(layer) is WindowLayer for layer in make_model(windowed).new_cache("sinks:2+4").layers] == [True, False]
    windowed = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=3),) * 2)
    model = make_model(windowed)
    cache = model.new_cache("sinks:2+4")
    assert cache.lossless
    assert_close(feed(model, cache, IDS, [5, 7]), model(IDS))


def test_an_interrupted_step_can_be_run_again(monkeypatch):
    model = make_model(TURNING)
    wanted = feed(model, model.new_cache("sinks:2+4"), IDS, [9, 3])
    cache = model.new_cache("sinks:2+4")
    model(IDS[:9], cache)

    def fail(*_):
        raise KeyboardInterrupt

    for failing in ([1], [1, 2, 3, 4, 5, 6, 7, 8, 9]):
        with monkeypatch.context() as patch:
            patch.setattr(cache.layers[1], "update", fail)
            with pytest.raises(KeyboardInterrupt):
                model(failing, cache)
    fork = cache.fork()
    assert_close(model(IDS[9:], cache), wanted[9:])
    assert_close(model(IDS[9:], fork), wanted[9:])


@settings(max_examples=60)
@given(data=st.data(), first=st.integers(1, 3), last=st.integers(1, 5))
def test_crop_fork_and_clear_leave_what_a_fresh_run_leaves(data, first, last):
    model = make_model(TURNING)
    spec, fed = f"sinks:{first}+{last}", data.draw(st.integers(1, 11))
    cache = model.new_cache(spec)
    feed(model, cache, IDS[:fed], data.draw(cuts(fed)))
    length = data.draw(st.integers(0, fed))
    other, kept = cache.fork(), cache.layers[0].keys.copy()
    assert all(type(n) is int for layer in cache.layers for n in layer.state().numbers.values())
    needed, held = max(first, length + 1 - last), cache.layers[0].start  # after the sinks
    if length < fed and needed < held:
        with pytest.raises(UsageError, match="rows that the next query would see have been evicted"):
            cache.crop(length)
        assert (cache.seen, fed > first + last) == (fed, True)
        return
    cache.crop(length)
    wanted = feed(model, model.new_cache(spec), IDS, [12])
    fresh = model.new_cache(spec)
    if length:
        model(IDS[:length], fresh)
    for mine, made in zip(cache.layers, fresh.layers, strict=True):
        assert mine.keys.shape == made.keys.shape
        assert np.allclose(mine.keys, made.keys, rtol=1e-12, atol=1e-12)
    assert_close(model(IDS[length:], cache), wanted[length:])
    assert np.array_equal(other.layers[0].keys, kept)
    assert_close(model(IDS[fed:], other), wanted[fed:])
    other.clear()
    assert_close(model(IDS, other), wanted)


def test_a_crop_within_the_last_step_is_allowed():
    model = make_model(TURNING)
    cache = model.new_cache("sinks:2+3")
    model(IDS[:8], cache)
    model(IDS[8:], cache)
    cache.crop(9)
    assert_close(model(IDS[9:], cache), feed(model, model.new_cache("sinks:2+3"), IDS, [12])[9:])
    model([1], cache)
    with pytest.raises(UsageError, match=r"the cache sinks:2\+3 cannot be cropped to 11 tokens"):
        cache.crop(11)
