"""`kvsim caches`, `compare` and `chat`: JSON, files, streams, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.caches.specs import POLICIES
from kvsim.cli import run
from tests.comparisons.test_trace import Forgetful

SCHEMAS = Path(kvsim.__file__).parent / "schemas"
COMMAND = [sys.executable, "-m", "kvsim"]


@pytest.mark.parametrize(
    "argv",
    [
        ["caches"],
        ["caches", "--model", "gemma-2-2b", "--dtype", "float16"],
        ["compare", "床前明月光，龘", "--cache", "window:2", "--cache", "none", "-n", "2"],
        ["compare", "床前明月光，", "-n", "2"],
        ["chat", "--lang", "zh"],
        ["chat", "龘", "国", "-n", "2", "--fork", "1:人", "--edit", "2:民", "--cache", "window:2"],
    ],
)
def test_json_is_one_object_in_its_schema(argv, capsys):
    assert run([*argv, "--json"]) == 0
    out = capsys.readouterr().out
    schema = json.loads((SCHEMAS / f"{argv[0]}-1.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(out), schema)
    assert out.count("\n") == 1
    assert "\\u" not in out


def test_unknown_characters_are_a_note_on_stderr(capsys):
    for argv in (["compare", "龘中", "--cache", "window:2", "-n", "1"], ["chat", "龘中", "-n", "1"]):
        assert run([*argv, "--lang", "en"]) == 0
        assert capsys.readouterr().err == "note: not in the model's vocabulary, fed as the unknown token: 龘\n"


def test_text_from_a_file_and_from_stdin(tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeff中华\n人民\r\n".encode())
    assert run(["compare", "--file", str(file), "--cache", "window:2", "-n", "1", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["text"] == "中华\n人民"
    done = subprocess.run(
        [*COMMAND, "compare", "--file", "-", "--cache", "window:2", "-n", "1", "--json"],
        input=file.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == out


def test_a_closed_stdin_is_an_error():
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m kvsim compare --file - <&-"], capture_output=True, check=False
    )
    assert done.returncode == 4
    assert b"Traceback" not in done.stderr


def test_turns_from_a_file(tmp_path, capsys):
    file = tmp_path / "turns.json"
    file.write_text('["你好！", "今天"]', encoding="utf-8")
    assert run(["chat", "--turns", str(file), "-n", "2", "--json"]) == 0
    from_file = capsys.readouterr().out
    assert run(["chat", "你好！", "今天", "-n", "2", "--json"]) == 0
    assert capsys.readouterr().out == from_file
    assert [turn["text"] for turn in json.loads(from_file)["turns"]] == ["你好！", "今天"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["compare", "床前明月光，", "--cache", "static:40"], "CHECK FAILED: static:40 is lossless"),
        (["chat", "床前明月光，", "今天", "--cache", "static:40"], "CHECK FAILED: the logits of both differ by"),
    ],
)
def test_a_failed_check_is_exit_1(argv, said, monkeypatch, capsys):
    class Forgets(Forgetful):
        @classmethod
        def read_options(cls, name, text):
            return int(text)

    monkeypatch.setitem(POLICIES, "static", Forgets)
    assert run([*argv, "--lang", "en"]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["compare", "--cache", "none"], ["chat"]])
def test_positions_that_depend_on_the_length_are_no_failure(argv, tmp_path, capsys):
    """The fixture has no tokenizer: the demo's own, with dynamic NTK."""
    from tests.loading.folders import change_config, copy_demo

    folder = copy_demo(tmp_path)
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    change_config(folder, max_position_embeddings=16, rope_scaling=scaling, rope_parameters=...)
    argv = [argv[0], "床前明", "月光疑是地上", *argv[1:]] if argv[0] == "chat" else [argv[0], "床前明月光", *argv[1:]]
    assert run([*argv, "--model", str(folder), "-n", "3", "--lang", "en"]) == 0


@pytest.mark.parametrize("command", ["caches", "compare", "chat"])
def test_the_same_bytes_at_any_width(command, capsys, monkeypatch):
    argv = {
        "caches": ["caches"],
        "compare": ["compare", "中", "-n", "2", "--cache", "window:2"],
        "chat": ["chat", "中"],
    }
    outputs = set()
    for columns in ("20", "80", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run([*argv[command], "--lang", "zh"]) == 0
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 1
