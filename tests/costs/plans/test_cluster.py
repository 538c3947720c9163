"""Sweeps on a Dask cluster: the same rows, and an error when the scheduler stops answering."""

import importlib.util

import pytest

from kvsim.costs.plans import cluster
from kvsim.costs.plans.grid import Axes, make_grid
from kvsim.costs.plans.sweep import make_rows, run_sweep
from kvsim.errors import BackendError
from tests.costs.plans.test_sweep import AXES, MODELS


def test_a_scheduler_without_dask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(BackendError, match=r'needs Dask: pip install "\.\[dask\]" in a clone'):
        list(run_sweep(make_grid(Axes(["gpt2"], ["a10"], [1])), "tcp://127.0.0.1:9"))


class Future:
    """The future of a chunk whose result never comes."""

    status = "pending"

    def result(self, timeout):
        raise TimeoutError


class Client:
    """A client whose scheduler has stopped answering."""

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
    """Results up to then are kept, and the sweep ends with an error."""
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

    grid = make_grid(Axes(MODELS[:2], **AXES))
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as local:
        rows = [row for chunk in run_sweep(grid, local.scheduler_address) for row in chunk]
    assert rows == make_rows(grid, 0, grid.points)


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra dask")
def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr(cluster, "SILENCE", 1)
    with pytest.raises(BackendError, match=r"no scheduler with workers answers at 'tcp://127\.0\.0\.1:9'"):
        list(run_sweep(make_grid(Axes(["gpt2"], ["a10"], [1])), "tcp://127.0.0.1:9"))
