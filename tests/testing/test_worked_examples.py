"""The worked examples run, accept what is right, and name what is wrong; what they print is held whole. To make the
files again after a change: `KVSIM_GOLDEN=write pytest tests/testing/test_worked_examples.py`, and read the diff."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.views.test_golden import masked

GOLDEN = Path(__file__).parent.parent / "golden" / "oracle"
ROUNDED = re.compile(r"[-+]\d+\.\d{4}\b")  # of float32, whose last digit is the processor's
FOLDER = Path(__file__).parent.parent.parent / "examples" / "oracle"
SAID = {
    "numpy_class": "diagnosis: [rope_pos_restarts_at_0]",
    "torch_attention": "diagnosis: [mask_top_left]",
    "transformers_cache": "diagnosis: [decode_does_not_append]",
}
NEEDS_DEV = ("torch_attention", "transformers_cache")


def run(name):
    environment = os.environ | {"KVSIM_LANG": "en", "PYTHONPATH": str(FOLDER.parent.parent)}
    script = [sys.executable, str(FOLDER / f"{name}.py")]
    done = subprocess.run(script, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert ": correct" in done.stdout
    assert SAID[name] in done.stdout
    got, file = ROUNDED.sub("N", masked(done.stdout)), GOLDEN / f"example-{name}.txt"
    if os.environ.get("KVSIM_GOLDEN") == "write":
        file.write_text(got, encoding="utf-8")
    assert got == file.read_text(encoding="utf-8")


def test_the_numpy_class():
    run("numpy_class")


@pytest.mark.dev
@pytest.mark.parametrize("name", NEEDS_DEV)
def test_with_other_libraries(name):
    run(name)


def test_every_example_is_run():
    assert {file.stem for file in FOLDER.glob("*.py")} == set(SAID)
    assert {file.stem for file in GOLDEN.glob("example-*.txt")} == {f"example-{name}" for name in SAID}
