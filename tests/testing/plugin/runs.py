"""Runs a small suite that uses `kv_oracle` with pytest in a subprocess, and checks its output and reports.

`python tests/testing/plugin/runs.py FOLDER ...` does so with the pytest installed in each folder (by
`pip install --target`) and the kvsim of the Python that runs this. The script itself imports neither.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DECODERS = Path(__file__).parent.parent / "strangers" / "numpy_decoders.py"
SUITE = """
import pytest
from numpy_decoders import Recomputes, NumpyDecoder, TopLeft

def step(m, ids):
    return m.forward(ids)

def test_right(kv_oracle):
    weights = kv_oracle.weights(layers=2, heads=4, kv_heads=2, window=4)
    kv_oracle.assert_split_invariant(make=lambda: NumpyDecoder(weights), step=step, reference=weights)
    kv_oracle.assert_cost(make=lambda: NumpyDecoder(kv_oracle.made), step=step, feed=[1] * 7, projected_rows=21)

def test_wrong(kv_oracle):
    weights = kv_oracle.weights(window=4)
    kv_oracle.assert_split_invariant(lambda: TopLeft(weights), step)

def test_recomputing(kv_oracle):
    weights = kv_oracle.weights()
    kv_oracle.assert_cost(lambda: Recomputes(weights), step, [1] * 7, score_cells=28, projected_rows=21)

def test_endless(kv_oracle):
    def attention(q, k, v):
        while True:
            pass
    kv_oracle.assert_attention(attention, seconds=0.5)

@pytest.mark.parametrize("name", ["a/b", "a:b", "x" * 300])
def test_names(kv_oracle, name):
    kv_oracle.assert_attention(lambda q, k, v: q * 2)

def test_options(kv_oracle):
    assert (kv_oracle.seed, kv_oracle.cases) == (5, 2)
"""
OPTIONS = ["--kv-seed", "5", "--kv-cases", "2", "--kv-report"]


def run(folder, suite, *arguments, python=sys.executable, path=()):
    """The completed process of pytest on `suite`, written into `folder`. `path`: folders for PYTHONPATH."""
    (folder / "numpy_decoders.py").write_text(DECODERS.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "test_mine.py").write_text(suite, encoding="utf-8")
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *arguments, "test_mine.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "KVSIM_LANG": "en"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False,
                          encoding="utf-8")  # fmt: skip


def check_suite(folder, *arguments, **more):
    """Run SUITE with every option, and assert its output and its reports."""
    report = folder / "report"
    done = run(folder, SUITE, *OPTIONS, str(report), *arguments, **more)
    output = done.stdout + done.stderr
    assert re.search(r"^6 failed, 2 passed in ", done.stdout, re.MULTILINE), output
    for part in ("diagnosis: [mask_top_left]", "this is no cache", "attention did not return within 0.5 s"):
        assert part in done.stdout, output
    for hidden in ("decoders.py:", "costs.py:", "limits.py:"):  # tracebacks hide kvsim's own frames
        assert hidden not in done.stdout, output
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(report.glob("*.json"))]
    assert sorted(r["test"].partition("::")[2][:11] for r in reports) == [
        "test_endles", "test_names[", "test_names[", "test_names[", "test_recomp", "test_wrong",
    ], reports  # fmt: skip
    wrong = next(r for r in reports if r["test"].endswith("test_wrong"))
    assert (wrong["diagnosis"], wrong["smallest"], wrong["seed"]) == (["mask_top_left"], [1, 1], 5), wrong
    assert wrong["text"].startswith("logits differ")
    assert f"max |diff| {wrong['max_abs_diff']:.3g}" in wrong["text"]
    assert all(r["text"] and r["schema"] == "kvsim.oracle/1" for r in reports)


def main(folders):
    for folder in map(os.path.abspath, folders):
        ask = [sys.executable, "-c", "import pytest, xdist; print(pytest.__version__, xdist.__version__)"]
        version = subprocess.run(
            ask, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": folder}
        )
        for arguments in (["-p", "no:xdist"], ["-n", "2"]):
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as place:
                check_suite(Path(place), *arguments, path=[folder])
            spent = time.monotonic() - started
            print(f"pytest, xdist {version.stdout.strip()} {' '.join(arguments)}: passed ({spent:.1f} s)")


if __name__ == "__main__":
    main(sys.argv[1:])
