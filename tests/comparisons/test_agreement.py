"""Logits compared, and the difference that rounding allows."""

import numpy as np
import pytest

from kvsim.comparisons.agreement import allowed_difference, check_agreement, combine, compare_logits
from kvsim.comparisons.agreement_record import Agreement
from kvsim.errors import KvsimError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.models import PRIMES, make_model


def test_the_allowance_by_hand():
    """16 · eps · max|logit| · √Σk, one of each group of parallel products: q, scores, context, output, up and down of
    two layers, and the head."""
    model = make_model(PRIMES, "float32")
    with model.count() as ledger:
        model([1, 2, 3])
    d, k, f, hk = PRIMES.d_model, PRIMES.d_head, PRIMES.d_ff, PRIMES.n_heads * PRIMES.d_head
    inner = 2 * (d + k + 3 + hk + d + f) + d
    expected = 16 * 2.0**-23 * 5.0 * inner**0.5
    assert allowed_difference(model.ops, ledger, 5.0) == pytest.approx(expected, rel=1e-12)


def test_the_comparison_sees_every_row_both_have():
    ops = make_model(PRIMES).ops
    full = np.arange(20.0).reshape(5, 4)
    part = full[2:].copy()
    part[0, 1] += 0.5
    assert compare_logits(ops, full, part) == (0.5, 19.0, False)
    assert compare_logits(ops, full, full[2:].copy()) == (0.0, 19.0, True)
    full[4, 3] = 0.0
    part = full[2:].copy()
    part[2, 3] = -0.0
    assert compare_logits(ops, full, part) == (0.0, 18.0, False)


def test_an_agreement_is_within_its_allowance():
    assert Agreement(0.5, 0.5, False).agrees
    assert not Agreement(0.6, 0.5, False).agrees
    assert Agreement(0.0, 0.0, True).agrees
    assert not Agreement(0.0, 0.0, False).agrees  # -0.0 for 0.0, where nothing may differ


@pytest.mark.parametrize("backend", ["numpy", "exact"])
def test_an_allowance_where_sums_may_be_reordered(backend):
    """A small difference is rounding under a BLAS, and an error where every sum adds in one order."""
    model = Model(PRIMES, random_weights(PRIMES), dtype="float64", backend=backend)
    with model.count() as ledger:
        full = np.array(model([1, 2, 3]))
    part = full[1:] + 1e-15
    found = check_agreement(model, full, part, ledger)
    assert found.agrees == (backend == "numpy")
    assert (found.allowed == 0.0) == (backend == "exact")
    assert check_agreement(model, full, full[1:], ledger) == (0.0, found.allowed, True)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_not_finite(wrong):
    model = make_model(PRIMES)
    full = np.zeros((2, PRIMES.vocab_size))
    part = full.copy()
    part[0, 3] = wrong
    with pytest.raises(KvsimError, match="not finite in float64"):
        check_agreement(model, full, part, [])


def test_combine_prefers_what_does_not_agree():
    """The largest difference beyond its allowance is smaller here than one within."""
    within, beyond, further = Agreement(5.0, 9.0, False), Agreement(1.0, 0.5, False), Agreement(2.0, 0.5, False)
    assert combine([within, Agreement(4.0, 9.0, False)]) is within
    assert combine([beyond, within, further]) is further
    last = within._replace(allowed=10.0)
    assert combine([within, last]) is last
