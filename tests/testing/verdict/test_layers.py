"""Decoders that make their layers visible: the first that differs is named, and nothing is said where none is seen."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.feeds.chunking import make_text
from kvsim.testing.feeds.references import Allowed, Reference
from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.verdict.layers import Place, Seen, allowed_layers, emulated_layers, expected_layers, first_differing
from tests.testing.strangers.numpy_decoders import NumpyDecoder


@pytest.fixture(autouse=True)
def one_mistake_known(monkeypatch):
    """These tests look at the layers: a diagnosis that runs every mistake of the bank would be most of their time."""
    id = "rope_pos_restarts_at_0"
    monkeypatch.setattr("kvsim.testing.verdict.diagnosing.BANK", {id: BANK[id]})


def shown(cls, count=None):
    """The same decoder, which keeps what its first `count` layers gave in the last step."""

    class Shown(cls):
        def forward(self, ids):
            self.hidden = []
            return super().forward(ids)

        def layer(self, i, x):
            x = super().layer(i, x)
            self.hidden.append(x)
            return x

        def layers(self):
            return self.hidden[:count]

    return Shown


def told(cls, weights, layers=lambda m: m.layers(), **more):
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(
            lambda: cls(weights), lambda m, ids: m.forward(ids), weights, layers=layers, **more
        )
    return str(caught.value)


def line_of(text):
    """The one line that speaks of layers."""
    (line,) = [line for line in text.splitlines() if "first layer" in line]
    return line


class WrongFrom(NumpyDecoder):
    """Every step begins at position 0, in the layers from `first` on."""

    first = 0

    def positions(self, layer, n):
        return np.arange(n) if layer >= self.first else super().positions(layer, n)


class WrongHead(NumpyDecoder):
    """All layers are right, and what comes after them is not."""

    def linear(self, x, name):
        return super().linear(x, name) * (2 if name == "lm_head.weight" else 1)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_layer_that_differs(first):
    cls = type("Wrong", (WrongFrom,), {"first": first})
    text = told(shown(cls), testing.weights(layers=3))
    assert line_of(text).startswith(f"  first layer: feed [3, 3, 1], step 2, layer {first} (from 0), row 0 (token ")
    assert "position 3), channel" in line_of(text)
    assert "2 x the reference's own float64 error" in line_of(text)


def test_the_first_step_comes_before_the_first_layer():
    """Layer 1 is wrong from the first step on, layer 0 only later."""

    class Both(WrongFrom):
        def remember(self, layer, k, v):
            return super().remember(layer, k, v * (1.5 if layer else 1))

    assert "step 1, layer 1 (from 0), row 0" in line_of(told(shown(Both), testing.weights()))


@pytest.mark.parametrize(("wrong", "place"), [
    ([], None), ([(0, 6, 4)], (2, 0, 6, 4)), ([(1, 5, 2), (0, 5, 3)], (1, 0, 5, 3)),
    ([(1, 2, 0), (0, 3, 0)], (0, 1, 2, 0)), ([(1, 4, 1), (1, 3, 2)], (1, 1, 3, 2)),
])  # fmt: skip
def test_the_first_place_of_made_up_layers(wrong, place):
    """Layer, row and channel of what is wrong, in a feed [3, 3, 1] of two layers of five channels."""
    expected = [np.zeros((7, 5)), np.zeros((7, 5))]
    got = [np.full((7, 5), 0.9), np.full((7, 5), -0.9)]
    for layer, row, channel in wrong:
        got[layer][row, channel] = 1.1
    found = first_differing(Seen(got, expected, [Allowed("float64", 0.0, 1.0)] * 2), (3, 3, 1))
    assert found == (None if place is None else Place(*place))


def test_layers_that_are_right_are_said_to_be():
    assert line_of(told(shown(WrongHead), testing.weights())).startswith("  first layer: none of the layers 0 to 1")
    late = type("Late", (WrongFrom,), {"first": 1})
    assert "none of the layers 0 to 0 differs" in line_of(told(shown(late, 1), testing.weights()))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("window", [None, 4])
def test_rounding_is_no_difference(dtype, window):
    text = told(shown(WrongHead), testing.weights(dtype=dtype, window=window, seed=1), seed=1)
    assert "none of the layers 0 to 1 differs" in line_of(text)
    assert "layer 1 (from 0)" in line_of(
        told(shown(type("W", (WrongFrom,), {"first": 1})), testing.weights(dtype=dtype))
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_what_rounding_may_do_to_a_layer_is_measured(dtype):
    reference, text = Reference(testing.weights(dtype=dtype)), make_text((3, 3, 1), 0, 31)
    bounds = allowed_layers(reference, text, dtype, expected_layers(reference, text))
    assert [bound.dtype for bound in bounds] == [dtype] * 2
    assert all(FORMATS[dtype].eps / 4 < bound.own < 200 * FORMATS[dtype].eps for bound in bounds)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_where_no_layer_is_visible_none_is_spoken_of(language, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", language)
    text = told(WrongFrom, testing.weights(), layers=None)
    assert "layer" not in text
    assert "层" not in text
    assert ("layer 0" in told(shown(WrongFrom), testing.weights())) == (language == "en")
    assert ("第 0 层" in told(shown(WrongFrom), testing.weights())) == (language == "zh")


@pytest.mark.parametrize(("layers", "said"), [
    (lambda m: [], "shapes [], expected a list of 1 to 2 of shape [3, 24]"),
    (lambda m: m.layers() * 2, "expected a list of 1 to 2"),
    (lambda m: m.layers()[0], "expected a list of 1 to 2"),
    (lambda m: [x[-1:] for x in m.layers()], "shapes [[1, 24], [1, 24]], expected"),
    (lambda m: [object()], "cannot be read as an array"),
    (lambda m: m.nothing, "raised AttributeError"),
])  # fmt: skip
def test_layers_that_cannot_be_read_are_told_as_that(layers, said):
    text = told(shown(WrongFrom), testing.weights(), layers=layers)
    assert said in text
    assert "first layer" not in text
    assert "[rope_pos_restarts_at_0]" in text


def test_right_code_is_accepted_whatever_it_shows():
    weights = testing.weights()
    testing.assert_split_invariant(
        lambda: shown(NumpyDecoder)(weights), lambda m, ids: m.forward(ids), weights, layers=lambda m: m.layers(),
    )  # fmt: skip


def test_layers_under_a_policy():
    weights = testing.weights()
    with pytest.raises(OracleError, match=r"step 1, layer 0 \(from 0\), row 2"):
        testing.assert_policy(
            lambda: shown(NumpyDecoder)(weights), lambda m, ids: m.forward(ids), weights, "window:2",
            layers=lambda m: m.layers(), allowed=1e-9,
        )  # fmt: skip


@pytest.mark.parametrize("policy", ["dynamic", "window:3", "sinks:1+2"])
def test_the_models_layers_are_the_independent_decoders(policy):
    reference = Reference(testing.weights(layers=3), policy)
    text = make_text((3, 3, 1), 0, 31)
    for one, other in zip(expected_layers(reference, text), emulated_layers(reference, text, "float64"), strict=True):
        assert one.shape == other.shape == (7, 24)
        assert np.abs(one - other).max() <= 1e-12 * np.abs(one).max()
