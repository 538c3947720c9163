"""A torch decoder under the oracle in four dtypes: accepted, and diagnosed with each mistake."""

import re
from pathlib import Path

import pytest

from kvsim import testing
from kvsim.testing import OracleError

pytestmark = pytest.mark.dev

SOURCE = Path(__file__).with_name("torch_styles.py").read_text(encoding="utf-8")
WRONG = re.findall(r"^class (\w+)\(.*# expect: (\w+)$", SOURCE, re.MULTILINE)
DTYPES = ("float64", "float32", "float16", "bfloat16")


def check(name, dtype, seed=0, **sizes):
    import torch

    from tests.testing.strangers import torch_styles

    kind, cls = getattr(torch, dtype), getattr(torch_styles, name)
    weights = testing.weights(dtype=dtype, seed=seed, array=lambda x: torch.from_numpy(x).to(kind), **sizes)
    assert cls(weights).forward([1, 2]).dtype == kind
    testing.assert_split_invariant(
        lambda: cls(weights), lambda m, ids: m.forward(ids), weights, seed=seed, layers=lambda m: m.hidden
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 4])
def test_the_correct_decoder_is_accepted(dtype, window):
    for seed in range(4):
        check("TorchDecoder", dtype, seed, window=window)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "expected"), WRONG, ids=[name for name, _ in WRONG])
def test_wrong_decoders_are_diagnosed(name, expected, dtype):
    with pytest.raises(OracleError) as caught:
        check(name, dtype)
    assert caught.value.facts["diagnosis"] == [expected]
    assert "layer 0 (from 0)" in str(caught.value)
    assert f"the reference's own {dtype} error" in str(caught.value)
