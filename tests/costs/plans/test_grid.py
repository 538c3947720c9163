"""The grid of a sweep, read from a JSON file: what it holds, and what is refused."""

import json

import pytest

from kvsim.costs.plans.grid import Axes, make_grid, read_grid
from kvsim.errors import FileError, UsageError


def write(path, **found):
    path.write_text(json.dumps(found))
    return path


GOOD = {"models": ["gpt2"], "devices": ["a10"], "contexts": [1_024]}


def test_a_file(tmp_path):
    path = write(tmp_path / "s.json", **GOOD, batches=[1, 2], dtypes=["int8", None], utilizations=[0.9], parallel=[2])
    assert read_grid(path) == make_grid(
        Axes(["gpt2"], ["a10"], [1_024], batches=[1, 2], dtypes=["int8", None], utilizations=["0.9"], parallel=[2])
    )


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"device": ["a10"]}, FileError, "s.json: unknown key 'device': use models, devices, contexts, "),
        ({"contexts": 9}, FileError, "s.json: contexts must be a list of at least one value, got 9"),
        ({"contexts": []}, FileError, "contexts must be a list of at least one value"),
        ({"contexts": [0]}, UsageError, "context must be a whole number of at least 1, got 0"),
        ({"contexts": ["9"]}, UsageError, "context must be a whole number"),
        ({"batches": [-1]}, UsageError, "batch must be a whole number of at least 1, got -1"),
        ({"models": ["gtp2"]}, UsageError, "near names are gpt2"),
        ({"models": [{}]}, FileError, "s.json: models must hold names"),
        ({"devices": ["a100"]}, UsageError, "near names are a100-40gb"),
        ({"dtypes": ["int3"]}, UsageError, "unknown dtype 'int3'"),
        ({"dtypes": [None, 3]}, UsageError, "unknown dtype 3"),
        ({"dtypes": [[]]}, FileError, "dtypes must hold names"),
        ({"cache_dtypes": ["int3"]}, UsageError, "unknown cache dtype 'int3'"),
        ({"parallel": [0]}, UsageError, "devices must be a whole number"),
        ({"utilizations": [2]}, UsageError, "utilization must be"),
        ({"source": -1, "models": ["t5-small"]}, UsageError, "source must be"),
        ({"source": "abc"}, UsageError, "source must be"),  # also of models without an encoder
        ({"contexts": [1] * 100_001, "batches": [1] * 1_000}, UsageError, "sweeps go up to 100000000"),
    ],
)
def test_files_that_are_refused(tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        read_grid(write(tmp_path / "s.json", **{**GOOD, **change}))


def test_a_required_key_is_missing(tmp_path):
    with pytest.raises(FileError, match=r"s\.json: contexts is missing: a sweep needs models, devices, contexts"):
        read_grid(write(tmp_path / "s.json", models=["gpt2"], devices=["a10"]))
