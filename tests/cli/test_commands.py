"""The commands as processes: help, JSON, streams, languages, colour, completion, doctor."""

import json
import os
import subprocess
import sys

import pytest

import kvsim
from kvsim.cli import COMMANDS, run
from kvsim.schemas import VERSIONS

COMMAND = [sys.executable, "-m", "kvsim"]


def kv(*argv, **environment):
    """Run `kvsim *argv` in a clean environment; bytes out."""
    kept = {k: v for k, v in os.environ.items() if k not in ("KVSIM_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "NO_COLOR")}
    return subprocess.run([*COMMAND, *argv], capture_output=True, env=kept | environment, check=False)


def test_version():
    assert kv("--version").stdout.decode().split()[-1] == kvsim.__version__


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_help_ends_with_two_examples(command, lang, capsys):
    assert run([command, "--help", "--lang", lang]) == 0
    out = capsys.readouterr().out
    examples = out.replace("\\\n", "").rstrip().splitlines()[-2:]  # a long one takes several lines
    assert all(line.strip().startswith(f"kvsim {command}") for line in examples)
    assert ("示例" if lang == "zh" else "Examples") in out


def test_a_process_prints_the_help():
    done = kv("trace", "--help", "--lang", "zh")
    assert done.returncode == 0
    assert "示例" in done.stdout.decode()


def test_no_command_prints_the_help():
    done = kv()
    assert done.returncode == 2
    assert "Usage: kvsim" in done.stderr.decode()


def test_json_is_one_object_on_stdout():
    done = kv("trace", "龘中", "--json", LANG="zh_CN.UTF-8")
    record = json.loads(done.stdout.decode("utf-8"))
    assert record["schema"] == "kvsim.trace/1"
    assert record["unknown"] == ["龘"]
    assert "龘" in done.stdout.decode("utf-8")
    assert "龘" in done.stderr.decode("utf-8")
    assert done.stdout.count(b"\n") == 1


def test_unknown_characters_are_a_note_on_stderr(capsys):
    assert run(["trace", "龘\x1b中", "--lang", "en"]) == 0
    out, err = capsys.readouterr()
    assert err == "note: not in the model's vocabulary, fed as the unknown token: 龘 \\x1b\n"
    assert "龘" in out
    assert "\x1b" not in out


def test_the_same_bytes_in_any_locale():
    """Arguments and output are UTF-8 in every locale."""
    expected = kv("trace", "中华人民", "--lang", "zh", LC_ALL="C.UTF-8").stdout
    assert "中华人民" in expected.decode("utf-8")
    for locale in ("C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1", ""):
        done = kv("trace", "中华人民", "--lang", "zh", LC_ALL=locale, PYTHONIOENCODING="latin-1")
        assert (done.stdout, done.stderr) == (expected, b""), locale
    done = kv("trace", "中华人民", "--lang", "zh", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.stdout == kv("trace", "中华人民", "--lang", "zh").stdout == expected


def test_the_locale_defines_the_language():
    assert "步骤" in kv("trace", "中", LANG="zh_CN.UTF-8").stdout.decode()
    assert "step" in kv("trace", "中", LANG="en_US.UTF-8").stdout.decode()


def test_colour_follows_the_environment():
    plain = kv("trace", "中", "--show", "cells").stdout
    assert b"\x1b[" not in plain
    assert b"\x1b[" in kv("trace", "中", "--show", "cells", FORCE_COLOR="1").stdout
    assert b"\x1b[" not in kv("trace", "中", "--show", "cells", FORCE_COLOR="1", NO_COLOR="1").stdout


@pytest.mark.parametrize("name", VERSIONS)
def test_schema_is_printed(name, capsys):
    assert run(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == f"kvsim.{name}/1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("kvsim t", "trace"), ("kvsim trace --feed ", "prefill"), ("kvsim trace --model d", "demo"),
     ("kvsim trace --cache s", "static:"), ("kvsim schema ", "trace"), ("kvsim schema ", "compare"),
     ("kvsim c", "compare"), ("kvsim caches --model llama-3.1-4", "llama-3.1-405b"), ("kvsim caches --model d", "demo"),
     ("kvsim compare --cache w", "window:256"), ("kvsim chat --cache s", "static:4096"),
     ("kvsim chat --model d", "demo"), ("kvsim caches --dtype b", "bfloat16"), ("kvsim compare --feed c", "chunk:")],
)  # fmt: skip
def test_completion(words, expected):
    done = kv(_KVSIM_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1))
    assert expected in done.stdout.decode()


def test_doctor(capsys):
    assert run(["doctor", "--lang", "en"]) == 0
    out = capsys.readouterr().out
    for word in ("kvsim", "numpy", "works: [2, 3]·[3, 2] = [[5.0, 14.0], [14.0, 50.0]]", "BLAS and threads",
                 "processors:", "encoding", "中华人民共和国成", "[2, 3]·[3, 2] = [2, 2]"):  # fmt: skip
        assert word in out
    assert run(["doctor", "--lang", "zh"]) == 0
    assert "演示模型" in capsys.readouterr().out


def test_doctor_prints_the_original_encoding():
    assert "encoding iso8859-1, written as utf-8" in kv("doctor", PYTHONIOENCODING="latin-1").stdout.decode()


def test_debug_after_two_dashes_is_text(capsys):
    assert run(["trace", "--lang", "en", "--", "--debug"]) == 0
    assert "characters fed one by one: 10" in capsys.readouterr().out


def test_doctor_reports_what_is_broken(monkeypatch, capsys):
    """A wrong product, and a missing demo model."""
    from pathlib import Path

    import kvsim.loading.places
    from kvsim.ops import Ops

    def wrong(self, kind, a, b, admitted=None):
        return self.xp.matmul(a, b) + 1.0

    with monkeypatch.context() as patch:
        patch.setattr(Ops, "matmul", wrong)
        assert run(["doctor", "--lang", "en"]) == 1
    assert "BROKEN: [2, 3]" in capsys.readouterr().out
    monkeypatch.setitem(kvsim.loading.places.BUNDLED, "demo", Path("/nowhere"))
    assert run(["doctor", "--lang", "en"]) == 1
    assert "BROKEN: cannot read" in capsys.readouterr().out


def test_the_progress_bar_shows_on_a_terminal_only(monkeypatch, capsys):
    """Work of more than a second: a bar on stderr if that is a terminal, nothing otherwise."""
    from kvsim.cli import options

    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(options.time, "monotonic", lambda: next(clock))
    with options.Bar("steps") as bar:
        bar(1, 2)
    assert bar._progress is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with options.Bar("steps") as bar:
        bar(1, 2)
        assert bar._progress is not None
        bar(2, 2)
    assert capsys.readouterr().out == ""
