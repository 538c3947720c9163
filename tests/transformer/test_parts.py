"""Rotary angles, mask, softmax, norm and activations, each against its definition."""

import math

import numpy as np
import pytest

from kvsim.config import Rope
from kvsim.spans import Span, View
from kvsim.transformer.attention import Scoring, attend
from kvsim.transformer.positions import Positions, causal_mask, rotary_angles
from tests.models import PRIMES, make_model


@pytest.mark.parametrize("theta", [10.0, 10000.0, 500000.0])
def test_rotary_angles(theta):
    cos, sin = rotary_angles(make_model(PRIMES).ops, Rope(theta, 10), Span(3, 6))
    for row, position in enumerate((3, 4, 5)):
        for j in range(5):
            angle = position * theta ** (-2 * j / 10)
            assert cos[row, j] == pytest.approx(math.cos(angle), abs=1e-15)
            assert sin[row, j] == pytest.approx(math.sin(angle), abs=1e-15)


@pytest.mark.parametrize("pairs", ["halves", "adjacent"])
@pytest.mark.parametrize("size", [10, 4])
def test_rotation_preserves_norms_and_products_depend_only_on_distance(pairs, size):
    rope = Rope(10000.0, size, pairs)
    positions = Positions(make_model(PRIMES).ops, PRIMES)
    x, y = np.random.default_rng(0).normal(size=(2, 1, 1, PRIMES.d_head))
    products = [
        float((positions.rotate(rope, x, Span(p, p + 1)) * positions.rotate(rope, y, Span(p + 4, p + 5))).sum())
        for p in (0, 7, 31)
    ]
    assert products == pytest.approx([products[0]] * 3, abs=1e-13)
    assert np.linalg.norm(positions.rotate(rope, x, Span(9, 10))) == pytest.approx(np.linalg.norm(x))


def test_the_mask_compares_positions():
    mask = causal_mask(make_model(PRIMES).ops, Span(2, 4), Span(1, 5), None)
    assert mask.allowed.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert mask.admitted == (5, 8)
    mask = causal_mask(make_model(PRIMES).ops, Span(2, 4), Span(1, 5), 2)
    assert mask.allowed.tolist() == [[True, True, False, False], [False, True, True, False]]
    assert mask.admitted == (4, 8)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_softmax_of_large_scores(dtype):
    """exp(1000) overflows unless the row's maximum is subtracted first."""
    ops = make_model(PRIMES, dtype).ops
    scores = np.array([[1000.0, 999.0, -math.inf]], dtype=dtype)
    share = 1 / (1 + math.exp(-1))
    assert ops.softmax(scores.copy())[0] == pytest.approx([share, 1 - share, 0.0], rel=2 * float(np.finfo(dtype).eps))
    assert ops.softmax(scores)[0, 2] == 0.0


def test_float16_statistics_are_computed_in_float32():
    """The mean of the squares of 300 overflows float16."""
    ops = make_model(PRIMES, "float16").ops
    x = np.full((1, PRIMES.d_model), 300.0, np.float16)
    normed = ops.norm("rms", x, make_model(PRIMES, "float16").weights.final_norm, 1e-6)
    gain = make_model(PRIMES, "float16").weights.final_norm.gain
    assert normed.dtype == np.float16
    assert np.array_equal(normed[0], gain)


def test_scores_are_recorded_before_the_mask():
    model = make_model(PRIMES)
    with model.watch("layers.0.*") as seen:
        model([1, 2, 3])
    places = ("query", "key", "scores", "capped", "masked", "probs", "value", "context", "hidden")
    assert set(seen) == {f"layers.0.{place}" for place in places}
    assert np.isfinite(seen["layers.0.scores"]).all()
    assert (seen["layers.0.probs"][..., 0, 1:] == 0).all()


def test_activations_at_known_points():
    ops = make_model(PRIMES).ops
    x = np.array([-1.0, 0.0, 2.0])
    phi = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    assert ops.activate("gelu", x.copy()) == pytest.approx([v * p for v, p in zip(x, phi, strict=True)])
    assert ops.activate("silu", x.copy()) == pytest.approx([v / (1 + math.exp(-v)) for v in x])
    assert ops.activate("relu", x.copy()).tolist() == [0.0, 0.0, 2.0]
    c = math.sqrt(2 / math.pi)
    assert ops.activate("gelu_tanh", x.copy()) == pytest.approx(
        [0.5 * v * (1 + math.tanh(c * (v + 0.044715 * v**3))) for v in x]
    )
    assert np.isfinite(ops.activate("silu", np.array([-1e4, 1e4]))).all()


def test_sinks_take_part_in_the_softmax_and_are_dropped():
    """gpt-oss: one more score per head in the sum of the softmax, with no value of its own."""
    ops, rng = make_model(PRIMES).ops, np.random.default_rng(0)
    q_GRTK, k_GSK, v_GSK = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 6, 5)), rng.normal(size=(2, 6, 5))
    sinks_H = rng.normal(size=6)
    view = View(k_GSK, v_GSK, Span(0, 6), Span(2, 6))
    context = attend(ops, q_GRTK, view, Scoring(0.5, sinks_H=sinks_H))
    scores = 0.5 * np.einsum("grtk,gsk->grts", q_GRTK, k_GSK)
    sinks = np.broadcast_to(sinks_H.reshape(2, 3, 1, 1), (2, 3, 4, 1))
    weights = np.exp(np.concatenate([scores, sinks], axis=-1))
    probs = (weights / weights.sum(axis=-1, keepdims=True))[..., :-1]
    expected = np.einsum("grts,gsk->grtk", probs, v_GSK)
    assert np.abs(context - expected).max() < 1e-14 * np.abs(expected).max()
