"""The reference's own error in each format, checks that could not fail, and kvsim models as references."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.cli import run
from kvsim.errors import UsageError
from kvsim.testing.feeds.chunking import make_text
from kvsim.testing.feeds.references import Reference
from kvsim.testing.independent.rounding import FORMATS
from tests.models import PRIMES, make_model


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_the_own_error_is_a_few_eps(dtype):
    reference = Reference(testing.weights(dtype=dtype))
    own = reference.own_error([make_text((3, 3, 1), 0, 31)], dtype)
    assert FORMATS[dtype].eps / 4 < own < 60 * FORMATS[dtype].eps


def test_a_format_in_which_nothing_could_fail_is_refused(capsys):
    """In fp8, 8 eps of the largest number are as large as that number: an output of zeros would pass."""
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
    text = make_text((3, 3, 1), 0, PRIMES.vocab_size)
    ids = [i for chunk in text for i in chunk]
    assert np.abs(reference.run(text) - make_model(PRIMES)(ids)).max() < 1e-12
    with pytest.raises(UsageError, match="reference is weights made by"):
        Reference({"lm_head.weight": 3})
