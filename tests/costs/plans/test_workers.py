"""Calls shared among processes: their order, and every way in which they may end."""

import os
import signal
import subprocess
import sys
from multiprocessing import active_children

import pytest

from kvsim.costs.plans.workers import call_in_processes
from kvsim.errors import BackendError, UsageError

CTRL_C = """
import os, signal
from contextlib import closing
from multiprocessing import active_children
from kvsim.costs.plans.grid import Axes, make_grid
from kvsim.costs.plans.sweep import run_sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have it ignored
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))  # as early as it can come
grid = make_grid(Axes(["gpt2"], ["a10"], range(1, 1_001), batches=range(1, 25)))
try:
    with closing(run_sweep(grid, processes=2)) as chunks:
        for rows in chunks:
            print(len(rows), flush=True)
            os.killpg(0, signal.SIGINT)
except KeyboardInterrupt:
    print(len(active_children()))
"""


def call(number, last=None):
    if number == last:
        os.kill(os.getpid(), signal.SIGKILL)
    if number < 0:
        raise UsageError("--n is at least 0")
    return number, "x" * 100_000  # more than a pipe holds


def test_results_come_in_order():
    calls = [(number,) for number in range(7)]
    assert list(call_in_processes(call, calls, 3)) == [call(number) for number in range(7)]
    assert active_children() == []


def test_an_error_is_raised_in_its_turn():
    results = call_in_processes(call, [(0,), (1,), (-1,), (3,)], 2)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(UsageError, match="at least 0"):
        next(results)
    assert active_children() == []


def test_a_process_that_dies_is_reported():
    results = call_in_processes(call, [(number, 1) for number in range(4)], 2)
    assert next(results)[0] == 0
    with pytest.raises(BackendError, match="a process of the sweep died"):
        next(results)
    assert active_children() == []


def test_a_process_that_cannot_start_is_reported(monkeypatch):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr("multiprocessing.Process", __import__("multiprocessing").get_context("fork").Process)
    with pytest.raises(BackendError, match="cannot start a process for the sweep: Resource temporarily"):
        next(call_in_processes(call, [(0,), (1,)], 2))


def test_processes_are_gone_when_nobody_wants_more():
    results = call_in_processes(call, [(number,) for number in range(9)], 2)
    assert next(results)[0] == 0
    assert len(active_children()) == 2
    results.close()
    assert active_children() == []


def test_ctrl_c_reaches_the_parent_alone():
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C], capture_output=True, text=True, start_new_session=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("4000\n0\n", "", 0)
