"""Strangers with quantised rows: right ones are accepted, mistakes named."""

import re
from pathlib import Path

import pytest

from kvsim import testing
from kvsim.testing import OracleError
from tests.testing.strangers import quantised

WRONG = re.findall(r"^class (\w+)\(.*# expect: (\w+)$", Path(quantised.__file__).read_text("utf-8"), re.MULTILINE)
POLICY = "int8:group=2,residual=1"


def check(cls, dtype):
    weights = testing.weights(dtype=dtype)
    testing.assert_policy(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, POLICY)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.dev)])
@pytest.mark.parametrize("cls", quantised.RIGHT)
def test_right_ones_are_accepted(cls, dtype):
    check(cls, dtype)


@pytest.mark.dev  # tests/testing/feeds/test_boundaries.py has one of each mistake
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "id"), WRONG, ids=[name for name, _ in WRONG])
def test_wrong_ones_are_named(name, id, dtype):
    """In float32 a code or scale of a wrong quantiser may lie on a rounding boundary: then it is only caught."""
    with pytest.raises(OracleError) as caught:
        check(getattr(quantised, name), dtype)
    assert caught.value.facts["diagnosis"] in ([id], ["unknown"] if dtype == "float32" else [id])
