"""What the tests of recorded steps share."""

import numpy as np

from kvsim.config import BY_LENGTH
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model


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
    """What has been recorded; nothing may have failed to be."""
    if model._replays is None:
        return []
    assert model._replays.refused == {}
    return model._replays.programs


def is_alike(config):
    """Are steps of one token alike, by what the configuration says?"""
    ropes = [kind.rope.kind for kind in config.layers if kind.rope is not None]
    mixed = any(kind.experts is not None for kind in config.layers)
    return config.encoder is None and not mixed and not set(ropes) & set(BY_LENGTH)
