"""--json of every command: one object on stdout, with the stamp of its schema, and valid under it."""

import json
from importlib import import_module

import jsonschema
import pytest

from kvsim.cli import COMMANDS, run
from kvsim.i18n.language import words
from kvsim.schemas import VERSIONS, read_schema, stamp

CASES = {
    "bench": ["bench", "-n", "3", "--points", "2", "--repeats", "1"],
    "caches": ["caches"],
    "chat": ["chat", "中", "-n", "1"],
    "claims": ["claims"],
    "compare": ["compare", "中", "-n", "1", "--cache", "window:2"],
    "cost": ["cost", "gpt2", "--device", "t4", "--dtype", "float16"],
    "doctor": ["doctor"],
    "explain": ["explain", "scale_missing"],
    "memory": ["memory", "gpt2"],
    "plan": ["plan", "gpt2", "--device", "t4", "--context", "64"],
    "plan-sweep": ["plan", "gpt2", "--sweep", "--device", "t4", "--context", "64"],
    "tolerance": ["tolerance", "--context", "8"],
    "trace": ["trace", "中", "-n", "1"],
    "verify": ["verify", "kvsim/learn/track/04_kv_cache/stub.py:KVCache"],
}
# vectors always prints JSON, one object a line (tests/costs/test_vectors.py); oracle is the file of --kv-report; of
# learn, the subcommand check has --json (tests/learn/test_commands.py).
NO_OPTION = {"learn", "oracle", "perfetto", "vectors"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small matrices for bench; verify and explain set the language for the code that they call."""
    from kvsim.benchmark import limits

    monkeypatch.setattr(limits, "SHAPES", ((64, 64),))
    monkeypatch.setenv("KVSIM_LANG", "zh")


def has_json(name):
    command = import_module(COMMANDS[name]).command(words("en"))
    return any("--json" in option.opts for option in command.params)


def test_every_command_with_json_has_a_schema_and_a_case():
    commands = {name for name in COMMANDS if has_json(name)}
    assert commands == {argv[0] for argv in CASES.values()}
    assert set(VERSIONS) == set(CASES) | NO_OPTION


@pytest.mark.parametrize("name", CASES)
def test_output_is_valid_and_stamped(name, capsys):
    assert run([*CASES[name], "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\\u" not in out
    record = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert list(record.items())[:2] == list(stamp(name).items())
    jsonschema.Draft202012Validator(json.loads(read_schema(name))).validate(record)


def test_doctor_reports_what_is_broken(monkeypatch, capsys):
    from pathlib import Path

    import kvsim.loading.places

    monkeypatch.setitem(kvsim.loading.places.BUNDLED, "demo", Path("/nowhere"))
    assert run(["doctor", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["works"], record["demo"]["works"], record["backends"]["numpy"]["works"]) == (False, False, True)
    assert record["demo"]["detail"].startswith("cannot read")
