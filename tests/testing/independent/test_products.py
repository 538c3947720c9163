"""Products in blocks of rows and memoised: the same bits, however they are computed."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.feeds.chunking import make_text
from kvsim.testing.independent import products
from kvsim.testing.independent.products import Products, multiply
from kvsim.testing.verdict.diagnosing import run_decoder
from tests.testing.strangers.numpy_decoders import NumpyDecoder


def test_blocks_change_no_bit(monkeypatch):
    generator = np.random.default_rng(0)
    w, x = generator.standard_normal((1000, 37)), generator.standard_normal(37)
    whole = (w * x).sum(axis=-1)
    for block in (1, 100, 1000 * 37 - 1):
        monkeypatch.setattr(products, "BLOCK", block)
        assert np.array_equal(multiply(w, x), whole)


def test_products_are_computed_once(monkeypatch):
    made = []
    monkeypatch.setattr(products, "multiply", lambda w, x: made.append(1) or (w * x).sum(axis=-1))
    w = np.arange(2.0**15).reshape(256, 128)
    other, small = w.copy(), w[:2]
    known = Products(most_bytes=3 * 256 * 8)
    vectors = [np.full(128, float(i)) for i in range(4)]
    for matrix in (w, w, other):
        assert np.array_equal(known.multiply(matrix, vectors[0]), (matrix * vectors[0]).sum(axis=-1))
    assert len(made) == 2  # not by the value of the matrix
    for _ in range(2):
        known.multiply(small, vectors[0])
    assert len(made) == 4  # of small ones a digest costs as much
    for x in vectors[1:]:
        known.multiply(w, x)
    assert known.nbytes == 3 * 256 * 8
    known.multiply(w, vectors[0])  # it was dropped
    assert len(made) == 8
    with pytest.raises(ValueError, match="read-only"):
        known.multiply(w, vectors[0])[0] = 1.0


def outputs(reading, known):
    mistake, cls = reading
    weights = testing.weights(window=mistake.window, rope=mistake.rope, layers=2)
    texts = [make_text(feed, n, weights.config.vocab) for n, feed in enumerate([(1, 2, 1, 2), (5, 1)])]
    return run_decoder(cls, weights.config.to_config(), weights.to_weights(), mistake.policy, texts, (), known)


EVERY = [(m, cls) for m in BANK.values() for cls in m.variants]


@pytest.mark.parametrize("part", [pytest.param(n, marks=[pytest.mark.dev] if n else []) for n in range(12)])
def test_no_reading_changes_what_is_memoised(part, monkeypatch):
    """Every reading gives the same with products that all of them share: none writes into them."""
    monkeypatch.setattr(products, "WORTH", 0)
    for reading in EVERY[part::12]:
        for one, other in zip(outputs(reading, None), outputs(reading, Products()), strict=True):
            assert (one is None) == (other is None), reading
            assert one is None or np.array_equal(one, other, equal_nan=True), reading


@pytest.mark.dev
def test_most_products_of_a_diagnosis_are_known(monkeypatch):
    """What a check of a large model costs, counted: tokens fed to the code under test, and products of whole matrices
    with vectors that no other suspect has multiplied."""
    asked, made, fed = [], [], []
    whole, kept = products.multiply, Products.multiply
    monkeypatch.setattr(products, "WORTH", 0)
    monkeypatch.setattr(products, "multiply", lambda w, x: made.append(1) or whole(w, x))
    monkeypatch.setattr(Products, "multiply", lambda self, w, x: asked.append(1) or kept(self, w, x))
    weights = testing.weights(seed=7)

    class Restarts(NumpyDecoder):
        def forward(self, ids):
            fed.append(len(ids))
            return super().forward(ids)

        def positions(self, layer, n):
            return np.arange(n)

    with pytest.raises(OracleError, match="rope_pos_restarts_at_0"):
        testing.assert_split_invariant(lambda: Restarts(weights), lambda m, ids: m.forward(ids), weights)
    assert sum(fed) < 150
    assert len(made) < 0.6 * len(asked)
