"""Quantisers by themselves: rounding is accepted; other mistakes are refused, and named if known."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.errors import UsageError
from kvsim.testing import OracleError


def quantiser(bits=8, axis=0, group=64, symmetric=True, round=np.rint, scale_dtype=np.float32):
    """Rows [tokens, channels]; groups along `axis`."""

    def split(x):
        moved = np.moveaxis(x, axis, -1)
        return moved.reshape(*moved.shape[:-1], -1, group)

    def join(x, shape):
        moved = np.moveaxis(np.empty(shape), axis, -1)
        return np.moveaxis(x.reshape(moved.shape), -1, axis)

    def quantise(x):
        parts = split(x)
        low = 0.0 if symmetric else parts.min(axis=-1, keepdims=True)
        top = np.abs(parts).max(axis=-1, keepdims=True) if symmetric else parts.max(axis=-1, keepdims=True) - low
        scale = (top / (2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)).astype(scale_dtype).astype(np.float64)
        return round((parts - low) / np.where(scale == 0, 1, scale)), scale, low, x.shape

    def dequantise(packed):
        codes, scale, low, shape = packed
        return join(codes * scale + low, shape)

    return quantise, dequantise


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize("group", [4, 64])
@pytest.mark.parametrize("symmetric", [True, False])
def test_rounding_is_accepted(bits, axis, group, symmetric):
    for dtype in (np.float16, np.float32):
        pair = quantiser(bits, 0 if axis == "channel" else 1, group, symmetric, scale_dtype=dtype)
        testing.assert_quantiser(*pair, bits=bits, axis=axis, group=group, symmetric=symmetric)


@pytest.mark.parametrize(("options", "expected"), [
    ({"round": np.trunc}, "quantised_truncates"),
    ({"round": np.floor}, "quantised_truncates"),
    ({"axis": 1}, "quantised_scale_axis"),
    ({"bits": 4}, "unknown"),
    ({"group": 1}, "quantised_wrong_group"),
    ({"group": 32}, "quantised_wrong_group"),
    ({"group": 128}, "quantised_wrong_group"),
])  # fmt: skip
def test_other_errors_are_named(options, expected):
    with pytest.raises(OracleError) as caught:
        testing.assert_quantiser(*quantiser(**options))
    assert caught.value.facts["diagnosis"] == [expected]
    assert f"[{expected}]" in str(caught.value)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_what_is_not_quantised_is_named(bits, kind):
    """Its error is small: it is seen by the number of different values."""
    with pytest.raises(OracleError, match=f"which takes [0-9]+ bits: {bits} bits have {2**bits}") as caught:
        testing.assert_quantiser(lambda x: x.astype(kind), lambda x: x.astype(np.float64), bits=bits)
    assert caught.value.facts["diagnosis"] == ["quantised_not_at_all"]


def test_eight_bits_are_not_four():
    with pytest.raises(OracleError, match="255 different values come back, which takes 8 bits: 4 bits have 16"):
        testing.assert_quantiser(*quantiser(bits=8), bits=4)


def test_half_a_step_is_the_bound():
    """An error between half a step and one step is refused."""
    quantise, dequantise = quantiser()
    with pytest.raises(OracleError, match=r"the error is 0\.\d+ steps"):
        testing.assert_quantiser(*quantiser(round=lambda x: np.rint(x - 0.3)))
    testing.assert_quantiser(quantise, dequantise)


def test_quantising_again_must_change_nothing():
    """The largest number became smaller, so that the second quantisation has another scale."""
    quantise, dequantise = quantiser()
    shrunk = lambda packed: dequantise(packed) * (1 - 1 / 300)  # noqa: E731
    with pytest.raises(OracleError, match=r"quantising what was read back changes it|the error is"):
        testing.assert_quantiser(quantise, shrunk)


def test_results_that_are_no_numbers():
    quantise, dequantise = quantiser()
    with pytest.raises(OracleError, match="holds NaN or infinity"):
        testing.assert_quantiser(quantise, lambda packed: dequantise(packed) * np.nan)
    with pytest.raises(OracleError, match="has shape"):
        testing.assert_quantiser(quantise, lambda packed: dequantise(packed)[1:])
    with pytest.raises(OracleError, match="cannot be called with"):
        testing.assert_quantiser(quantise, lambda: 3)
    with pytest.raises(OracleError, match="zeros come back as"):
        testing.assert_quantiser(quantise, lambda packed: np.where(dequantise(packed) == 0, 1e-3, dequantise(packed)))
    with pytest.raises(UsageError, match=r"unknown axis .head.: use one of channel, token"):
        testing.assert_quantiser(quantise, dequantise, axis="head")
