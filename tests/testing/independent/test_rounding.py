"""Emulated formats against the libraries that have them; feeds and allowances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim import testing
from kvsim.cli import run
from kvsim.errors import UsageError
from kvsim.testing.feeds.programme import LONGEST, feeds, pieces, text_of
from kvsim.testing.feeds.references import Reference
from kvsim.testing.independent.rounding import FORMATS, format_name, round_to, rounding
from tests.models import PRIMES, make_model

NUMBERS = st.floats(-1e6, 1e6) | st.floats(-1e-5, 1e-5) | st.floats(width=16)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_float16_and_float32_are_numpys(numbers):
    x = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        for dtype in ("float16", "float32"):
            assert np.array_equal(round_to(x, FORMATS[dtype]), x.astype(dtype).astype(np.float64), equal_nan=True)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_the_others_are_those_of_ml_dtypes(numbers):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array(numbers, np.float64)
    with np.errstate(all="ignore"):
        for dtype in ("bfloat16", "float8_e5m2"):
            # by way of float32 where float64 is rounded twice: only exact ones are compared
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


def test_feeds_go_beyond_the_window_and_begin_again():
    for window in (1, 4, 20, 60):
        config = testing.weights(window=window).config.to_config()
        found = feeds(config, cases=3, seed=1)
        assert found[0] == found[-1]
        assert len(set(found)) == len(found) - 1
        assert all(0 < sum(feed) <= LONGEST for feed in found)
        assert any(sum(feed) > window for feed in found)
        assert any(len(feed) > 1 and feed[-2] > 1 for feed in found)  # a chunk of several tokens after others
    assert feeds(testing.weights().config.to_config())[:2] == [(3, 3, 1), (7,)]
    assert pieces(7, 2) == (2, 2, 2, 1)
    assert pieces(6, 2) == (2, 2, 2)


def test_texts_differ():
    one, other = text_of((3, 1), 0, 31), text_of((3, 1), 1, 31)
    assert one != other
    assert [len(chunk) for chunk in one] == [3, 1]
    assert one == text_of((3, 1), 0, 31)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_the_own_error_is_of_the_order_of_the_dtype(dtype):
    reference = Reference(testing.weights(dtype=dtype))
    own = reference.own_error([text_of((3, 3, 1), 0, 31)], dtype)
    assert FORMATS[dtype].eps / 4 < own < 60 * FORMATS[dtype].eps


def test_a_format_in_which_nothing_could_fail_is_refused(capsys):
    """Eight steps of fp8 are as much as the largest number: zeros would pass."""
    weights = testing.weights(dtype="fp8")
    zeros = lambda _, ids: np.zeros((len(ids), weights.config.vocab))  # noqa: E731
    with pytest.raises(UsageError, match="rounding to float8_e4m3fn may change right results by"):
        testing.assert_split_invariant(lambda: None, zeros, weights, dtype="fp8")
    with pytest.raises(testing.OracleError, match="logits differ"):
        testing.assert_split_invariant(lambda: None, zeros, weights, allowed=1.0)
    with pytest.raises(UsageError, match="rounding to float8_e4m3fn"):
        testing.assert_attention(lambda q, k, v: q * 0, dtype="fp8")
    for dtype, said in (("fp8", True), ("bf16", False)):
        assert run(["tolerance", "--dtype", dtype, "--context", "16", "--lang", "en"]) == 0
        assert ("could not fail" in capsys.readouterr().out) == said


def test_a_model_can_be_the_reference():
    reference = Reference(make_model(PRIMES))
    assert reference.covered
    text = text_of((3, 3, 1), 0, PRIMES.vocab_size)
    ids = [i for chunk in text for i in chunk]
    assert np.abs(reference.run(text) - make_model(PRIMES)(ids)).max() < 1e-12
    with pytest.raises(UsageError, match="reference is weights made by"):
        Reference({"lm_head.weight": 3})


@pytest.mark.parametrize("sizes", [{"heads": 4, "kv_heads": 3}, {"d_head": 3}, {"layers": 0}, {"window": 0}])
def test_sizes_that_make_no_sense(sizes):
    with pytest.raises(UsageError, match="at least 1"):
        testing.weights(**sizes)
    with pytest.raises(UsageError, match="unknown rope 'spiral'"):
        testing.weights(rope="spiral")
