"""The pytest plugin, in runs of its own: options, the fixture, reports; and that it loads nothing."""

import json
import os
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TESTS = """
import numpy as np
from tests.testing.strangers import Stranger, Recomputes, TopLeft

def step(m, ids):
    return m.forward(ids)

def test_right(kv_oracle):
    weights = kv_oracle.weights(layers=2, heads=4, kv_heads=2, window=4)
    kv_oracle.assert_split_invariant(make=lambda: Stranger(weights), step=step, reference=weights)
    kv_oracle.assert_cost(make=lambda: Stranger(kv_oracle.made), step=step, feed=[1] * 7, projected_rows=21)

def test_wrong(kv_oracle):
    weights = kv_oracle.weights(window=4)
    kv_oracle.assert_split_invariant(lambda: TopLeft(weights), step)

def test_dear(kv_oracle):
    weights = kv_oracle.weights()
    kv_oracle.assert_cost(lambda: Recomputes(weights), step, [1] * 7, score_cells=28, projected_rows=21)

def test_options(kv_oracle):
    assert (kv_oracle.seed, kv_oracle.cases) == (5, 2)
"""


def run(folder, *arguments):
    (folder / "test_mine.py").write_text(TESTS, encoding="utf-8")
    own = [] if any(e.name == "kvsim" for e in entry_points(group="pytest11")) else ["-p", "kvsim.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *own, *arguments,
               str(folder / "test_mine.py")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KVSIM_LANG": "en"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False,
                          encoding="utf-8")  # fmt: skip


@pytest.mark.parametrize("more", [[], ["-p", "xdist", "-n", "2"]], ids=["alone", "xdist"])
def test_the_fixture(tmp_path, more):
    if more:
        pytest.importorskip("xdist")
    done = run(tmp_path, "--kv-seed", "5", "--kv-cases", "2", "--kv-report", str(tmp_path / "report"), *more)
    assert "2 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "diagnosis: [mask_top_left]" in done.stdout
    assert "this is no cache" in done.stdout
    assert "splitting.py" not in done.stdout  # where the library raises is nobody's business
    reports = sorted((tmp_path / "report").glob("*.json"))
    assert len(reports) == 2
    told = [json.loads(file.read_text(encoding="utf-8")) for file in reports]
    assert {t["test"] for t in told} == {"test_mine.py::test_wrong", "test_mine.py::test_dear"}
    wrong = next(t for t in told if t["test"].endswith("wrong"))
    assert (wrong["diagnosis"], wrong["smallest"], wrong["seed"]) == (["mask_top_left"], [1, 1], 5)


def test_it_loads_nothing():
    script = (
        "import sys, pytest; before = set(sys.modules); import kvsim.pytest_plugin;"
        " print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"kvsim", "kvsim.pytest_plugin"}


def test_the_entry_point():
    read = ConfigParser()
    read.read(ROOT / "setup.cfg", encoding="utf-8")
    assert read["options.entry_points"]["pytest11"].strip() == "kvsim = kvsim.pytest_plugin"
