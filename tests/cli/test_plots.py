"""--plot without matplotlib, and files that it refuses, before any work."""

import sys

import pytest

from kvsim.cli import run

COMMANDS = {
    "bench": ["bench", "-n", "9"],
    "cost": ["cost", "gpt2", "--prompt", "9", "--new", "2"],
    "memory": ["memory", "gpt2"],
    "compare": ["compare", "中", "-n", "1"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_without_the_extra(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run([*COMMANDS[name], "--plot", str(tmp_path / "a.svg"), "--lang", "en"]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert '--plot FILE needs matplotlib: pip install ".[plot]" in a clone of kvsim' in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["a.gif", "a", "svg", ".svg", ""])
@pytest.mark.parametrize("name", COMMANDS)
def test_other_endings(name, file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run([*COMMANDS[name], "--plot", file, "--lang", "en"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"--plot takes a file that ends in .svg, .png or .pdf, got {file!r}" in err


@pytest.mark.dev
@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_be_written(name, tmp_path, capsys):
    (tmp_path / "folder.svg").mkdir()
    for file, reason in (("folder.svg", "Is a directory"), ("none/a.PDF", "there is no folder"), ("a\0.png", "null")):
        assert run([*COMMANDS[name], "--plot", str(tmp_path / file), "--lang", "en"]) == 4
        out, err = capsys.readouterr()
        assert (reason in err, err.count("\n"), out) == (True, 1, "")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]
