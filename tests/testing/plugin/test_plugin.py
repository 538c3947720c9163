"""The pytest plugin, run in subprocesses: options, the fixture, reports; and that loading it imports nothing else."""

import json
import math
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing.feeds.chunking import choose_feeds
from tests.testing.plugin import runs as plugin_runs

ROOT = Path(__file__).parent.parent.parent.parent
HERE = {"path": [ROOT]}
OWN = [] if any(e.name == "kvsim" for e in entry_points(group="pytest11")) else ["-p", "kvsim.pytest_plugin"]
WRONG = """
from numpy_decoders import NumpyDecoder, TopLeft

def test_wrong(kv_oracle):
    weights = kv_oracle.weights(heads=2, kv_heads=1, layers=1, d_head=4, window=4)
    kv_oracle.assert_split_invariant(lambda: TopLeft(weights), lambda m, ids: m.forward(ids))
"""


def run(folder, suite, *arguments):
    return plugin_runs.run(folder, suite, *OWN, *arguments, **HERE)


def test_the_fixture_and_every_option(tmp_path):
    """Under this pytest; .ci/run does the same on pytest 7, 8 and 9, each alone and under xdist."""
    plugin_runs.check_suite(tmp_path, *OWN, **HERE)


def headline(done):
    """The first line of a failure, and the number of feeds in it."""
    line = next(line for line in done.stdout.splitlines() if "logits differ" in line)
    return line, int(re.search(r"of (\d+) feeds", line)[1])


def test_seed_and_cases(tmp_path):
    """Other weights and texts, more feeds, and the seed in the command that reproduces the failure. Without
    --kv-report no file is written."""
    plain, other = run(tmp_path, WRONG), run(tmp_path, WRONG, "--kv-seed=7", "--kv-cases", "3")
    config = testing.weights(heads=2, kv_heads=1, layers=1, d_head=4, window=4).config.to_config()
    assert headline(plain)[1] == len(choose_feeds(config, cases=0))
    assert headline(plain)[1] < headline(other)[1] <= headline(plain)[1] + 3
    assert headline(plain)[0].rpartition("max")[2] != headline(other)[0].rpartition("max")[2]
    assert ("--seed 0" in plain.stdout, "--seed 7" in other.stdout) == (True, True)
    assert {file.name for file in tmp_path.iterdir()} <= {"numpy_decoders.py", "test_mine.py", "__pycache__"}


def test_passing_tests_are_not_reported(tmp_path):
    done = run(tmp_path, WRONG.replace("TopLeft(weights)", "NumpyDecoder(weights)"), "--kv-report=reports")
    assert "1 passed" in done.stdout
    assert list(tmp_path.glob("reports/*")) == []


@pytest.mark.parametrize(("arguments", "message"), [
    (["--kv-seed=-1"], "--kv-seed: expected a whole number from 0 on, got -1"),
    (["--kv-seed=x"], "--kv-seed: expected a whole number from 0 on, got x"),
    (["--kv-cases=1.5"], "--kv-cases: expected a whole number from 0 on, got 1.5"),
    (["--kv-report=test_mine.py"], "--kv-report: expected a folder, got the file test_mine.py"),
])  # fmt: skip
def test_invalid_options(arguments, message, tmp_path):
    done = run(tmp_path, WRONG, *arguments)
    assert done.returncode == 4
    assert message in done.stderr


def test_a_report_that_cannot_be_written_does_not_hide_the_failure(tmp_path):
    (tmp_path / "deep").write_text("", encoding="utf-8")
    done = run(tmp_path, WRONG, "--kv-report=deep/report")
    assert "diagnosis: [mask_top_left]" in done.stdout
    assert "OracleError" in done.stdout


def test_infinity_in_a_report_is_null(tmp_path):
    from kvsim import testing
    from kvsim.testing.oracle import Oracle

    weights = testing.weights(heads=2, kv_heads=1, d_head=4, layers=1)
    oracle = Oracle(report=tmp_path, name="a_test")
    with pytest.raises(testing.OracleError):
        oracle.assert_split_invariant(lambda: [], lambda state, ids: np.full((len(ids), 1), np.nan), weights,
                                      allowed=math.inf)  # fmt: skip
    (report,) = tmp_path.glob("*.json")
    assert json.loads(report.read_text(encoding="utf-8"))["schema"] == "kvsim.oracle/1"


def test_the_fixture_has_the_functions_of_the_module():
    """Except those that a test file uses outside of tests."""
    from kvsim import testing
    from kvsim.testing.oracle import Oracle

    functions = {name for name in testing.__all__ if name.startswith("assert_")} | {"attention", "weights"}
    assert functions <= set(dir(Oracle))
    assert set(testing.__all__) - functions == {"Case", "ModelWeights", "OracleError", "cases"}
    assert Oracle().attention is testing.attention


def test_it_imports_nothing_else():
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
