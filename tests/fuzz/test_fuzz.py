"""Hostile inputs of every kind: each is answered, or refused in one line.

The same cases in every run; `--fuzz-minutes M` tries others for M minutes a target, under the limit of one second.
"""

import os
from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.fuzz.harness import Target, list_targets, run, try_case

CASES = 40  # of each target: all of them take five seconds
FEWER = {"tokenizer": 5, "gguf": 10}  # each starts a process


@pytest.mark.parametrize("name", list_targets())
def test_answered_or_refused(name, request):
    for library in getattr(import_module(f"tests.fuzz.targets.{name}"), "NEEDS", ()):
        if find_spec(library) is None:
            pytest.skip(f"needs {library}")
    minutes = request.config.getoption("--fuzz-minutes")
    cases = FEWER.get(name, CASES)
    found = run(name, cases, minutes)
    assert found.others == []
    assert found.inputs >= 1 if minutes else found.inputs == cases
    assert found.refusals  # a target that never reaches a check tests nothing


def endless(given):
    while True:
        pass


def refuse_at_length(given):
    from kvsim.errors import FileError

    raise FileError("a message\nof two lines")


@pytest.mark.parametrize(
    ("use", "said"),
    [(endless, "TooLongError"), (lambda given: 1 // 0, "ZeroDivisionError"), (refuse_at_length, "2 lines")],
)
def test_anything_else_is_found(use, said, tmp_path):
    """Shown on targets that do what kvsim must not."""
    target = Target("made", valid=None, make=lambda random, folder: None, use=use)
    kind, text = try_case(target, 0, tmp_path, 0.05)  # seconds of processor time
    assert kind == "other"
    assert said in text


def test_a_process_that_ends_is_found(monkeypatch, tmp_path):
    """The number of the case is known although its process was ended by a signal."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, types\n"
        "made = types.ModuleType('tests.fuzz.targets.json_values')\n"
        "made.valid = lambda folder: 0\n"
        "made.make = lambda random, folder: random\n"
        "made.use = lambda given: given and given.random() < 0.2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.modules['tests.fuzz.targets.json_values'] = made\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    found = run("json_values", 100)
    assert len(found.others) == 1
    assert "the process ended with -9" in found.others[0]
    assert found.inputs < 100
