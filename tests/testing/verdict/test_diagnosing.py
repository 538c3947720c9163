"""Votes for mistakes on made-up outputs; and small errors are not allowed."""

from types import SimpleNamespace

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.verdict.diagnosing import Vote, diagnose
from tests.testing.strangers.numpy_decoders import NumpyDecoder

ONE, TWO = BANK["mask_missing"], BANK["scale_missing"]


def candidates(**outputs):
    """Suspects whose outputs for each feed are one number."""
    named = {"one": ONE, "two": TWO}

    def run(mistake, cls, wanted):
        return {i: np.array([[outputs[cls][i]]]) for i in wanted}

    return SimpleNamespace(readings=lambda: [(named[name], [name]) for name in outputs], run=run)


def votes(expected, got):
    return [Vote(np.array([[e]]), np.array([[g]]), 1e-9) for e, g in zip(expected, got, strict=True)]


def test_a_mistake_that_explains_all_is_named():
    found = diagnose(votes([0, 0, 0.0], [1, 2, 0.0]), candidates(one=[1, 2, 0.0], two=[1, 5, 0.0]))
    assert found.ids == (ONE.id,)
    assert (found.candidates[0].failing, found.candidates[0].all, found.n_failing, found.n_all) == (2, 3, 2, 3)


def test_large_numbers_may_differ_by_their_rounding():
    """A mistake without softmax gives numbers far larger than the right ones, in whose rounding nothing shows."""
    assert diagnose(votes([1.0], [1000.0 + 1e-6]), candidates(one=[1000.0])).ids == (ONE.id,)
    assert diagnose(votes([1.0], [1000.0 + 1e-5]), candidates(one=[1000.0])).ids == ()
    assert diagnose(votes([1.0], [0.1 + 1e-8]), candidates(one=[0.1])).ids == ()


def test_passing_feeds_vote_too():
    """A mistake that would fail where the code under test passes is excluded."""
    found = diagnose(votes([0, 0, 0.0], [1, 2, 0.0]), candidates(one=[1, 2, 0.0], two=[1, 2, 9.0]))
    assert found.ids == (ONE.id,)


def test_two_equal_mistakes_are_both_named():
    assert diagnose(votes([0, 0.0], [1, 2.0]), candidates(one=[1, 2.0], two=[1, 2.0])).ids == (ONE.id, TWO.id)


def test_one_feed_that_is_not_explained_is_another_mistake():
    """Also one that passed, where the mistake would have failed. What explains two thirds of the failing feeds, and all
    that pass, is nearest."""
    four = votes([0.0] * 4, [1.0, 2.0, 3.0, 4.0])
    few = diagnose(four, candidates(one=[1.0, 9, 9, 9]))
    assert (few.ids, few.nearest) == ((), None)
    half = diagnose(four, candidates(one=[1.0, 2, 9, 9]))
    assert (half.ids, half.nearest) == ((), None)
    most = diagnose(four, candidates(one=[1.0, 2, 3, 9]))
    assert (most.ids, most.nearest.mistake.id, most.nearest.failing) == ((), ONE.id, 3)
    others = votes([0.0] * 5, [1.0, 2.0, 3.0, 4.0, 0.0])
    assert diagnose(others, candidates(one=[1.0, 2, 3, 9, 7])).nearest is None
    assert diagnose(four, candidates(one=[1.0, 2, 3, 4])).ids == (ONE.id,)
    passing = votes([0.0] * 3, [1.0, 0.0, 0.0])
    assert diagnose(passing, candidates(one=[1.0, 0, 7])).ids == ()
    assert diagnose(passing, candidates(one=[1.0, 0, 0])).ids == (ONE.id,)


def test_what_changes_nothing_explains_nothing():
    """Got is a little beyond what is allowed, and so near the right answer that a mistake without effect is as near."""
    near = [Vote(np.array([[0.0]]), np.array([[1.5]]), 1.0)]
    assert near[0].fails
    assert diagnose(near, candidates(one=[0.0])).ids == ()


def test_what_explains_less_than_half_of_the_difference_explains_nothing():
    """In a coarse dtype much is allowed, and a mistake may be as near as that by chance."""
    far = [Vote(np.zeros((1, 2)), np.array([[1.5, 1.5]]), 1.0)]
    for output, ids in (([1.5, 1.5], (ONE.id,)), ([1.5, 0.0], ()), ([1.5, 0.1], (ONE.id,)), ([1.5, 3.0], ())):
        suspects = candidates(one=[0.0])
        suspects.run = lambda mistake, cls, wanted, output=output: {0: np.array([output])}
        assert diagnose(far, suspects).ids == ids


def test_nothing_fails_nothing_is_named():
    assert diagnose(votes([1, 2.0], [1, 2.0]), candidates(one=[1, 2.0])).ids == ()


def test_what_is_not_finite_says_nothing_beside_what_is():
    found = diagnose(votes([0.0, 0.0], [np.nan, 1.0]), candidates(one=[np.nan, 1.0]))
    assert (found.ids, found.n_failing, found.blank) == ((ONE.id,), 1, False)
    assert diagnose(votes([0.0, 0.0], [np.nan, 1.0]), candidates(one=[np.nan, 2.0])).ids == ()


def test_where_only_nan_differs_nothing_is_named():
    nan, inf = np.nan, np.inf
    for got, one in ((nan, nan), (inf, inf), (inf, nan), (nan, 1.0)):
        found = diagnose(votes([0.0, 5.0], [got, 5.0]), candidates(one=[one, 5.0]))
        assert (found.ids, found.nearest, found.n_failing, found.n_all, found.blank) == ((), None, 1, 2, True)


def step(m, ids):
    return m.forward(ids)


class NotItself(NumpyDecoder):
    """A strict mask: the first query sees nothing, and softmax over nothing is NaN."""

    def mask(self, t, s):
        return super().mask(t, s) & ~np.eye(t, s, s - t, dtype=bool)

    def forward(self, ids):
        with np.errstate(all="ignore"):
            return super().forward(ids)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_strict_mask_is_named_only_where_a_finite_number_differs(layers, dtype):
    """In the second layer every query sees the NaN of the first row: anything else might have made it."""
    weights = testing.weights(layers=layers, dtype=dtype)
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(lambda: NotItself(weights), step, weights)
    assert caught.value.facts["diagnosis"] == ["mask_strict_no_self" if layers == 1 else "unknown"]
    assert "holds nan at [0, 0]" in str(caught.value)
    assert "who depends on whom" not in str(caught.value)  # that is not to be seen in NaN
    assert ("all wrong numbers are NaN or infinite" in str(caught.value)) == (layers > 1)


@pytest.mark.parametrize("rows", [slice(1, 2), slice(-1, None), slice(0, 1)])
def test_nan_that_no_mistake_gives_is_reported_as_nan(rows):
    """In some rows of every step, and where the model has one layer in all of them."""
    weights = testing.weights(layers=1)

    def blank(places):
        def run(m, ids):
            logits = m.forward(ids)
            logits[places] = np.nan
            return logits

        return run

    for places in (rows, slice(None)):
        with pytest.raises(OracleError, match="holds nan at") as caught:
            testing.assert_split_invariant(lambda: NumpyDecoder(weights), blank(places), weights)
        assert caught.value.facts["diagnosis"] == ["unknown"]
    assert "all wrong numbers are NaN or infinite" in str(caught.value)


@pytest.mark.parametrize(("dtype", "noise"), [("float64", 1e-12), ("float32", 1e-4), ("float16", 0.3)])
def test_a_small_error_is_not_allowed(dtype, noise):
    """Two orders above the dtype's rounding, at one place."""
    weights = testing.weights(dtype=dtype)

    def step(m, ids):
        logits = m.forward(ids).astype(dtype)
        logits[-1, 3] += np.asarray(noise, dtype)
        return logits

    with pytest.raises(OracleError, match="unknown"):
        testing.assert_split_invariant(lambda: NumpyDecoder(weights), step, weights)
