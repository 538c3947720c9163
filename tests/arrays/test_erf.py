"""The error function against the C library's."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvsim.arrays.erf import erf

EDGES = [0.0, 0.84375, 1.0, 1.25, 1 / 0.35, 6.0, 7.0, 1e-300, 1e300, math.inf]


def ulps(x, dtype):
    """The error of erf(x) in units in the last place of `dtype`, for each element of x."""
    got = erf(np, x)
    assert got.dtype == dtype
    true = np.array([math.erf(v) for v in x.astype(np.float64)])
    return np.abs(got.astype(np.float64) - true) / np.spacing(np.abs(true).astype(dtype)).astype(np.float64)


def test_within_two_ulp():
    near_edges = [np.nextafter(e, d) for e in EDGES[1:7] for d in (-9, 9)]
    x = np.concatenate([np.linspace(-7, 7, 100_001), np.random.default_rng(0).normal(size=100_000), EDGES, near_edges])
    assert ulps(np.concatenate([x, -x]), np.float64).max() <= 2
    assert ulps(np.concatenate([x[:200_000], -x[:200_000]]).astype(np.float32), np.float32).max() <= 1


def test_nan_stays_nan_and_zero_keeps_its_sign():
    got = erf(np, np.array([math.nan, -0.0]))
    assert math.isnan(got[0])
    assert math.copysign(1, got[1]) == -1


@given(st.floats(allow_nan=False))
def test_any_float(x):
    with np.errstate(all="raise", under="ignore"):
        assert ulps(np.array([x]), np.float64)[0] <= 2
