"""Every command, output and session that the READMEs show is what happens."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

import kvsim
from kvsim.cli import run
from tests.views.test_golden import masked

ROOT = Path(__file__).parent.parent
READMES = {"README.md": "en", "README.zh-CN.md": "zh"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name, kind):
    text = (ROOT / name).read_text(encoding="utf-8")
    return [body for language, body in BLOCK.findall(text) if language == kind]


def sessions():
    """(readme, command, output) of every `$` line in a console block."""
    for name in READMES:
        for body in blocks(name, "console"):
            for part in body.split("$ ")[1:]:
                command, _, output = part.partition("\n")
                yield name, command, output


@pytest.mark.parametrize(("name", "command", "output"), list(sessions()))
def test_a_command_prints_what_is_shown(name, command, output, capsys, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    program, *argv = shlex.split(command)
    assert program == "kvsim"
    assert run(argv) == 0
    assert masked(capsys.readouterr().out) == output


def test_both_readmes_show_commands():
    assert {name for name, _, _ in sessions()} == set(READMES)


@pytest.mark.parametrize("name", READMES)
def test_a_session_is_true(name):
    body = "\n".join(blocks(name, "pycon"))
    test = doctest.DocTestParser().get_doctest(body, {}, name, name, 0)
    failures, tried = doctest.DocTestRunner().run(test)
    assert (failures, tried > 10) == (0, True)


@pytest.mark.parametrize("name", READMES)
def test_two_commands_set_everything_up(name):
    """Each one line, in a virtual environment of its own; CI runs the second as it stands here."""
    first, second = (body.strip() for body in blocks(name, "sh"))
    assert "\n" not in first + second
    assert first.startswith('python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/kvsim trace "中华人民"')
    assert second == ('python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/python -m pytest -q')
    assert "python3-venv" in (ROOT / name).read_text(encoding="utf-8")


def test_versions_agree():
    assert f"version = {{{kvsim.__version__}}}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"## {kvsim.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_family_is_named():
    from kvsim.loading.families import FAMILIES

    for name in READMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert [family for family in FAMILIES if f"`{family}`" not in text] == []


def test_how_many_claims_and_mistakes_there_are():
    """The numbers that the text gives."""
    from kvsim.costs.claims import list_claims
    from kvsim.testing.bank import BANK

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(list(list_claims()))} claims" in text
    assert f"({len(BANK)} of them)" in text
