"""Emulated number formats against the libraries that implement them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import UsageError
from kvsim.testing.independent.rounding import FORMATS, format_name, round_to, rounding

NUMBERS = st.floats(-1e6, 1e6) | st.floats(-1e-5, 1e-5) | st.floats(width=16)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_float16_and_float32_against_numpy(numbers):
    x = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        for dtype in ("float16", "float32"):
            assert np.array_equal(round_to(x, FORMATS[dtype]), x.astype(dtype).astype(np.float64), equal_nan=True)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_bfloat16_and_fp8_against_ml_dtypes(numbers):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array(numbers, np.float64)
    with np.errstate(all="ignore"):
        for dtype in ("bfloat16", "float8_e5m2"):
            # ml_dtypes rounds float64 twice, first to float32: both start from float32
            x32 = x.astype(np.float32)
            expected = x32.astype(getattr(ml_dtypes, dtype)).astype(np.float64)
            assert np.array_equal(round_to(x32, FORMATS[dtype]), expected, equal_nan=True)
        small = np.clip(x32, -448, 448)
        expected = small.astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
        assert np.array_equal(round_to(small, FORMATS["float8_e4m3fn"]), expected, equal_nan=True)


def test_known_roundings():
    assert rounding("bf16")(1.00390625) == 1.0  # a tie, to even
    assert rounding("fp8")(1000.0) == 448.0
    assert rounding("float16")(1e6) == np.inf
    assert rounding("float64")(0.1) == 0.1
    assert format_name("bf16") == "bfloat16"
    with pytest.raises(UsageError, match="unknown number format 'float7'"):
        format_name("float7")
