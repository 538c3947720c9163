"""Strangers that are cropped, forked and put in another order: right ones are accepted, mistakes named."""

import re
from pathlib import Path

import pytest

from kvsim import testing
from kvsim.testing import OracleError
from tests.testing.strangers import edited


def wrong_ones(file):
    """(class, expected diagnosis) of a file."""
    text = Path(edited.__file__).with_name(file).read_text(encoding="utf-8")
    return re.findall(r"^class (\w+)\(.*# expect: (\w+)$", text, re.MULTILINE)


WRONG, IN_BATCHES = wrong_ones("edited.py"), wrong_ones("torch_batches.py")


def check(cls, dtype="float64"):
    weights = testing.weights(window=4, dtype=dtype)
    testing.assert_edits(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, crop=cls.crop, fork=cls.fork,
                         reorder=cls.reorder)  # fmt: skip


@pytest.mark.parametrize("cls", edited.RIGHT)
def test_right_ones_are_accepted(cls):
    check(cls)


@pytest.mark.parametrize(("name", "id"), WRONG, ids=[name for name, _ in WRONG])
def test_wrong_ones_are_named(name, id):
    with pytest.raises(OracleError, match="in the script: a = make") as caught:
        check(getattr(edited, name))
    assert caught.value.facts["diagnosis"] == [id]


def check_batches(name, dtype):
    import torch

    from tests.testing.strangers import torch_batches

    cls, kind = getattr(torch_batches, name), getattr(torch, dtype)
    weights = testing.weights(window=4, dtype=dtype, array=lambda x: torch.from_numpy(x).to(kind))
    testing.assert_edits(lambda: cls(weights), lambda m, rows: m.forward(rows), weights, crop=cls.crop, fork=cls.fork,
                         reorder=lambda m, order: m.reorder_cache(torch.tensor(order)), batched=True)  # fmt: skip


@pytest.mark.dev
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_batches_of_torch(dtype):
    check_batches("Batches", dtype)


@pytest.mark.dev
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("name", "id"), IN_BATCHES, ids=[name for name, _ in IN_BATCHES])
def test_wrong_batches_of_torch_are_named(name, id, dtype):
    with pytest.raises(OracleError) as caught:
        check_batches(name, dtype)
    assert caught.value.facts["diagnosis"] == [id]
