"""Ctrl-C while a cache moves its rows to larger arrays: the rows that were there are there, and the step can be taken
again."""

import numpy as np
import pytest

from kvsim.caches.base import LayerCache
from kvsim.doctor.against_numpy import IDS
from tests.models import PRIMES, make_model


class Breaking(np.ndarray):
    """An array into which nothing is ever written."""

    def __setitem__(self, key, value):
        raise KeyboardInterrupt


@pytest.mark.parametrize("spec", ["dynamic", "window:4", "int8:residual=64,group=2,head"])
def test_rows_survive(spec, monkeypatch):
    model = make_model(PRIMES)
    cache, other = model.new_cache(spec), model.new_cache(spec)
    allocate, broken = LayerCache._allocate, 0

    def breaking(self, capacity):
        return tuple(made.view(Breaking) for made in allocate(self, capacity))

    for i in IDS:
        wanted = model([i], other)
        before = [(layer.keys.copy(), layer.values.copy()) for layer in cache.layers]
        with monkeypatch.context() as patch:
            patch.setattr(LayerCache, "_allocate", breaking)
            try:
                got = model([i], cache)
            except KeyboardInterrupt:
                broken += 1
                after = [(layer.keys, layer.values) for layer in cache.layers]
                assert all(
                    np.array_equal(*both)
                    for pair in zip(before, after, strict=True)
                    for both in zip(*pair, strict=True)
                )
                patch.undo()
                got = model([i], cache)
        assert np.array_equal(got, wanted)
    assert broken >= 2
