"""Sweeps: rows equal those of single plans, in one order however the points are cut into chunks."""

from itertools import product

from kvsim.costs.plans.grid import Axes, make_grid
from kvsim.costs.plans.planning import READINGS, plan
from kvsim.costs.plans.sweep import COLUMNS, UNLIMITED, cut, make_rows, run_sweep
from kvsim.errors import UsageError
from kvsim.views.terminal.sweep import to_csv

MODELS = ["llama-2-7b-hf", "gemma-3-27b-pt", "mistral-7b-v0.1", "deepseek-v3", "gpt2"]
AXES = {
    "dtypes": [None, "bfloat16", "int4"], "cache_dtypes": [None, "int8:zero"], "devices": ["a10", "t4", "h200"],
    "parallel": [1, 5, 8], "utilizations": [1, "0.9"], "contexts": [1, 191, 192, 40_000], "batches": [1, 3],
}  # fmt: skip


def alone(model, dtype, cache_dtype, device, devices, utilization, context, batch):
    """One row made from a single plan, as a dictionary; the text of the error if it is not possible."""
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
    rows = [row for chunk in run_sweep(make_grid(Axes(MODELS, **AXES))) for row in chunk]
    points = list(product(MODELS, *AXES.values()))
    assert len(rows) == len(points) == make_grid(Axes(MODELS, **AXES)).points
    refused = 0
    for row, (model, dtype, cache_dtype, device, devices, utilization, context, batch) in zip(
        rows, points, strict=True
    ):
        found = dict(zip(COLUMNS, row, strict=True))
        point = [found[key] for key in ("model", "device", "devices", "utilization", "context", "batch")]
        assert point == [model, device, devices, str(utilization), context, batch]
        assert dtype in (None, found["dtype"])
        assert cache_dtype in (None, found["cache_dtype"])
        expected = alone(model, dtype, cache_dtype, device, devices, utilization, context, batch)
        if isinstance(expected, str):
            refused += 1
            assert found["refused"] == expected
            assert found["weight_bytes"] is None
        else:
            assert {key: found[key] for key in expected} == expected
    assert 0 < refused < len(rows)


def test_any_cut_gives_the_same_rows():
    grid = make_grid(Axes(MODELS[:2], **AXES))
    whole = make_rows(grid, 0, grid.points)
    for size in (1, 7, 8, 100):
        assert [row for chunk in cut(grid.points, size) for row in make_rows(grid, *chunk)] == whole


def test_processes_give_the_same_rows():
    """Enough points for several chunks, so that processes run."""
    grid = make_grid(Axes(["gpt2", "mistral-7b-v0.1"], ["a10"], range(1, 3_001), batches=[1, 2]))
    assert len(cut(grid.points)) > 2
    chunks = list(run_sweep(grid, processes=2))
    assert chunks == list(run_sweep(grid, processes=1)) == [make_rows(grid, *chunk) for chunk in cut(grid.points)]


def test_csv():
    grid = make_grid(Axes(["gpt2"], ["h200"], [10], dtypes=["float64"]))
    head, line, rest = to_csv(make_rows(grid, 0, 1)).split("\n")
    assert (tuple(head.split(",")), rest) == (COLUMNS, "")
    weights, cache = 8 * 124_439_808, 10 * 147_456
    memory = (141 * 10**9, 141 * 2**30)
    found = [f"{m},{m - weights - cache},{(m - weights) // 147_456},{(m - weights) // cache}" for m in memory]
    assert line == f"gpt2,float64,float64,h200,1,1,10,1,{weights},{cache},{found[0]},{found[1]},,,,,"
