"""The lessons in examples/ run and print their result (each asserts its own claims)."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
EXPECTED = {
    "trace": "in all 140 against 28 score cells, 84 against 21 projected rows",
    "split_invariance": "64 ways to cut 7 tokens",
    "where_operations_go": "attention's two products are",
    "cache_memory": "= 512 B a token",
    "fake_cache": "faked     score cells  28   projected rows 63",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_lesson(name):
    script = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(script, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert EXPECTED[name] in done.stdout


def test_every_lesson_is_run():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(EXPECTED) | {"train_demo_model", "wrong_cache"}
