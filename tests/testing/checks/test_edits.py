"""Caches that are cropped and forked between steps: right ones are accepted, mistakes named, each as itself alone."""

import copy

import numpy as np
import pytest

from kvsim import testing
from kvsim.errors import UsageError
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.checks.edits import edits_of
from kvsim.testing.explaining import ExplainOptions, show_mistake
from kvsim.testing.feeds.references import Reference
from tests.testing.strangers.numpy_decoders import NumpyDecoder, Preallocated

EDITS = [(m, cls) for m in BANK.values() if m.edits for cls in m.variants]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("mistake", "cls"), EDITS, ids=lambda x: getattr(x, "__name__", ""))
def test_every_mistake_is_named_alone(mistake, cls, dtype):
    weights = testing.weights(window=4, dtype=dtype)
    one = edits_of(cls, Reference(weights))
    with pytest.raises(OracleError) as caught:
        testing.assert_edits(one.make, one.step, weights, crop=one.crop, fork=one.fork)
    assert caught.value.facts["diagnosis"] == [mistake.id]


def cropped(decoder, length):
    decoder.caches = [tuple(x[:, :length] for x in cache) for cache in decoder.caches]
    decoder.seen = length


def forked(decoder):
    other = copy.copy(decoder)
    other.caches = list(decoder.caches)
    return other


def check(cls=NumpyDecoder, crop=cropped, fork=forked, **more):
    weights = testing.weights(window=4)
    testing.assert_edits(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, crop=crop, fork=fork, **more)


def test_right_ones_are_accepted():
    check()
    check(fork=None)
    check(crop=None, fork=copy.deepcopy)
    check(Preallocated, crop=lambda m, length: setattr(m, "seen", length), fork=copy.deepcopy)
    check(crop=lambda m, length: (m := copy.deepcopy(m), cropped(m, length))[0])


@pytest.mark.parametrize(("edits", "id"), [
    ({"crop": lambda m, length: cropped(m, length) if length else None}, "crop_zero_keeps_all"),
    ({"crop": lambda m, length: (cropped(m, length), setattr(m, "seen", m.seen + 1))[0]}, "unknown"),
    ({"fork": lambda m: m}, "fork_not_copied"),
    ({"cls": Preallocated, "crop": lambda m, length: setattr(m, "seen", length), "fork": forked}, "fork_shares_tail"),
])  # fmt: skip
def test_wrong_ones_are_named(edits, id):
    with pytest.raises(OracleError, match="in the script: ") as caught:
        check(**edits)
    assert caught.value.facts["diagnosis"] == [id]


def test_what_cannot_be_compared():
    with pytest.raises(UsageError, match="give at least one"):
        check(crop=None, fork=None)
    with pytest.raises(OracleError, match="raised RuntimeError: no"):
        check(fork=lambda m: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(OracleError, match="shape"):
        check(type("Last", (NumpyDecoder,), {"forward": lambda m, ids: NumpyDecoder.forward(m, ids)[-1:]}))
    with pytest.raises(OracleError, match="max"):
        check(type("Blank", (NumpyDecoder,), {"forward": lambda m, ids: NumpyDecoder.forward(m, ids) * np.nan}))


def test_explain_shows_them():
    assert "[fork_shares_tail]" in show_mistake(BANK["fork_shares_tail"], ExplainOptions())
    assert "[ring_rolled_back]" in show_mistake(BANK["ring_rolled_back"], ExplainOptions())
