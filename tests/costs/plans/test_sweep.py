"""Sweeps: rows are those of single plans, in one order wherever they ran; files and schedulers refused by name."""

import importlib.util
import json
from itertools import product

import pytest

from kvsim.costs.plans import cluster
from kvsim.costs.plans.planning import plan
from kvsim.costs.plans.sweep import COLUMNS, READINGS, UNLIMITED, cut, make_grid, make_rows, read_grid, run_sweep
from kvsim.errors import BackendError, FileError, UsageError
from kvsim.views.terminal.sweep import to_csv

MODELS = ["llama-2-7b-hf", "gemma-3-27b-pt", "mistral-7b-v0.1", "deepseek-v3", "gpt2"]
AXES = {
    "dtypes": [None, "bfloat16", "int4"], "cache_dtypes": [None, "int8:zero"], "devices": ["a10", "t4", "h200"],
    "parallel": [1, 5, 8], "utilizations": [1, "0.9"], "contexts": [1, 191, 192, 40_000], "batches": [1, 3],
}  # fmt: skip


def alone(model, dtype, cache_dtype, device, devices, utilization, context, batch):
    """One row from one plan, as a dictionary; the error's text where it is refused."""
    try:
        found = plan(
            model, device, context, dtype=dtype, cache_dtype=cache_dtype, utilization=utilization, devices=devices
        )
    except UsageError as error:
        return str(error)
    cache = batch * found.request_bytes
    row = {"weight_bytes": found.setup.weight_bytes, "cache_bytes": cache, "refused": None}
    fits = {fit.reading: fit for fit in found.fits}
    for reading in READINGS:
        fit = fits.get(reading)
        row[f"{reading}_budget"] = fit and fit.budget
        row[f"{reading}_spare"] = fit and fit.budget - found.setup.weight_bytes - cache
        row[f"{reading}_tokens"] = fit and (UNLIMITED if fit.tokens is None else fit.tokens)
        row[f"{reading}_requests"] = fit and (UNLIMITED if fit.requests is None else fit.requests)
    return row


def test_rows_are_those_of_single_plans():
    rows = [row for chunk in run_sweep(make_grid(MODELS, **AXES)) for row in chunk]
    points = list(product(MODELS, *AXES.values()))
    assert len(rows) == len(points) == make_grid(MODELS, **AXES).points
    refused = 0
    for row, (model, dtype, cache_dtype, device, devices, utilization, context, batch) in zip(
        rows, points, strict=True
    ):
        told = dict(zip(COLUMNS, row, strict=True))
        asked = [told[key] for key in ("model", "device", "devices", "utilization", "context", "batch")]
        assert asked == [model, device, devices, str(utilization), context, batch]
        assert dtype in (None, told["dtype"])
        assert cache_dtype in (None, told["cache_dtype"])
        expected = alone(model, dtype, cache_dtype, device, devices, utilization, context, batch)
        if isinstance(expected, str):
            refused += 1
            assert told["refused"] == expected
            assert told["weight_bytes"] is None
        else:
            assert {key: told[key] for key in expected} == expected
    assert 0 < refused < len(rows)


def test_any_cut_gives_the_same_rows():
    grid = make_grid(MODELS[:2], **AXES)
    whole = make_rows(grid, 0, grid.points)
    for size in (1, 7, 8, 100):
        assert [row for chunk in cut(grid.points, size) for row in make_rows(grid, *chunk)] == whole


def test_processes_give_the_same_rows():
    """Enough points for several chunks, so that processes run."""
    grid = make_grid(["gpt2", "mistral-7b-v0.1"], ["a10"], range(1, 3_001), batches=[1, 2])
    assert len(cut(grid.points)) > 2
    chunks = list(run_sweep(grid, processes=2))
    assert chunks == list(run_sweep(grid, processes=1)) == [make_rows(grid, *chunk) for chunk in cut(grid.points)]


# Files


def write(path, **found):
    path.write_text(json.dumps(found))
    return path


GOOD = {"models": ["gpt2"], "devices": ["a10"], "contexts": [1_024]}


def test_a_file(tmp_path):
    path = write(tmp_path / "s.json", **GOOD, batches=[1, 2], dtypes=["int8", None], utilizations=[0.9], parallel=[2])
    assert read_grid(path) == make_grid(
        ["gpt2"], ["a10"], [1_024], batches=[1, 2], dtypes=["int8", None], utilizations=["0.9"], parallel=[2]
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
        ({"contexts": [1] * 100_001, "batches": [1] * 1_000}, UsageError, "sweeps go up to 100000000"),
    ],
)
def test_files_that_are_refused(tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        read_grid(write(tmp_path / "s.json", **{**GOOD, **change}))


def test_what_a_file_lacks(tmp_path):
    with pytest.raises(FileError, match=r"s\.json: contexts is missing: a sweep needs models, devices, contexts"):
        read_grid(write(tmp_path / "s.json", models=["gpt2"], devices=["a10"]))


def test_csv():
    grid = make_grid(["gpt2"], ["h200"], [10], dtypes=["float64"])
    head, line, rest = to_csv(make_rows(grid, 0, 1)).split("\n")
    assert (tuple(head.split(",")), rest) == (COLUMNS, "")
    weights, cache = 8 * 124_439_808, 10 * 147_456
    memory = (141 * 10**9, 141 * 2**30)
    told = [f"{m},{m - weights - cache},{(m - weights) // 147_456},{(m - weights) // cache}" for m in memory]
    assert line == f"gpt2,float64,float64,h200,1,1,10,1,{weights},{cache},{told[0]},{told[1]},,,,,"


# Clusters


def test_a_scheduler_without_dask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(BackendError, match=r'needs Dask: pip install "\.\[dask\]" in a clone'):
        list(run_sweep(make_grid(["gpt2"], ["a10"], [1]), "tcp://127.0.0.1:9"))


class Future:
    """A chunk's future that never comes."""

    status = "pending"

    def result(self, timeout):
        raise TimeoutError


class Client:
    """A scheduler that answered once."""

    status = "running"

    def __init__(self, chunks):
        self.chunks, self.closed = iter(chunks), 0

    def submit(self, make, grid, start, stop, pure):
        assert pure is False
        rows = next(self.chunks, None)
        return Future() if rows is None else type("Done", (), {"result": lambda self, timeout: rows})()

    def close(self, timeout):
        self.closed += 1


def test_a_scheduler_that_falls_silent(monkeypatch):
    """What came before is kept, and nobody waits for ever."""
    client = Client([["one"], ["two"]])
    now = iter(range(1_000))
    monkeypatch.setattr(cluster, "_connect", lambda address: client)
    monkeypatch.setattr(cluster, "_answers", lambda client: False)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: next(now))
    chunks = cluster.run_on_cluster("tcp://x:1", None, None, [(0, 1), (1, 2), (2, 3)])
    assert [next(chunks), next(chunks)] == [["one"], ["two"]]
    with pytest.raises(BackendError, match="no scheduler with workers answers at 'tcp://x:1': given up within 8 s"):
        next(chunks)
    assert client.closed == 1
    assert next(now) <= 10


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra dask")
def test_a_local_cluster():
    from distributed import LocalCluster

    grid = make_grid(MODELS[:2], **AXES)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as local:
        rows = [row for chunk in run_sweep(grid, local.scheduler_address) for row in chunk]
    assert rows == make_rows(grid, 0, grid.points)


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra dask")
def test_nobody_listens(monkeypatch):
    monkeypatch.setattr(cluster, "SILENCE", 1)
    with pytest.raises(BackendError, match=r"no scheduler with workers answers at 'tcp://127\.0\.0\.1:9'"):
        list(run_sweep(make_grid(["gpt2"], ["a10"], [1]), "tcp://127.0.0.1:9"))
