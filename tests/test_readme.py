"""The READMEs and the pages of docs/: every command and Python session has the output shown, both languages have the
same content, and every link has a target.

To update the outputs after a change of wording: `KVSIM_GOLDEN=write pytest -n 0 tests/test_readme.py`, and read the
diff.
"""

import configparser
import doctest
import os
import re
import shlex
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import pytest

import kvsim
from kvsim.cli import run
from tests.views.test_golden import masked

ROOT = Path(__file__).parent.parent
READMES = {"en": "README.md", "zh": "README.zh-CN.md"}
DOCS = sorted(file.name for file in (ROOT / "docs" / "en").glob("*.md"))
PAIRS = [(READMES["en"], READMES["zh"]), *((f"docs/en/{name}", f"docs/zh/{name}") for name in DOCS)]
PAGES = [page for pair in PAIRS for page in pair]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WRONG = "examples/wrong_cache.py:WrongCache"  # `verify` exits with code 1
LONGEST_README = 150


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def read_all(language):
    return "\n".join(read(page) for page in PAGES if page == READMES[language] or f"docs/{language}/" in page)


def blocks(page, kind):
    return [body for language, body in BLOCK.findall(read(page)) if language == kind]


def prose(page):
    """The page without its code blocks."""
    return BLOCK.sub("", read(page))


def sessions(page):
    """(command, output) of every `$` line in the page's console blocks."""
    for body in blocks(page, "console"):
        for part in body.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def rewrite(page, command, output, shown):
    """Replace the output on the page by `shown`."""
    text = read(page)
    assert text.count(f"$ {command}\n{output}") == 1
    (ROOT / page).write_text(text.replace(f"$ {command}\n{output}", f"$ {command}\n{shown}"), encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "command", "output"), [(page, *session) for page in PAGES for session in sessions(page)]
)
def test_a_command_has_the_output_shown(page, command, output, capsys, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    monkeypatch.chdir(ROOT)
    program, *argv = shlex.split(command)
    assert program == "kvsim"
    assert run(argv) == (1 if WRONG in argv else 0)
    shown = masked(capsys.readouterr().out)
    if os.environ.get("KVSIM_GOLDEN") == "write":
        rewrite(page, command, output, shown)
    assert shown == output or os.environ.get("KVSIM_GOLDEN") == "write"


@pytest.mark.parametrize("page", READMES.values())
def test_the_front_page_shows_trace_verify_and_plan(page):
    assert [shlex.split(command)[1] for command, _ in sessions(page)] == ["trace", "trace", "verify", "plan"]
    assert len(read(page).splitlines()) <= LONGEST_README


def test_the_wrong_cache_is_named():
    for page in READMES.values():
        assert any("[decode_does_not_append]" in output for _, output in sessions(page))


def test_docs_have_the_same_pages_in_both_languages():
    assert sorted(file.name for file in (ROOT / "docs" / "zh").glob("*.md")) == DOCS
    assert [path.name for path in sorted((ROOT / "docs").iterdir())] == ["en", "pictures", "zh"]


def bare_code(body):
    """The lines of code without comments and `--lang zh`, which differ between the languages."""
    lines = (re.sub(r"\s*#.*$", "", line) for line in body.replace(" --lang zh", "").splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize(("en", "zh"), PAIRS)
def test_both_languages_show_the_same_code(en, zh):
    assert all("--lang zh" in command for command, _ in sessions(zh))
    assert [command.replace(" --lang zh", "") for command, _ in sessions(zh)] == [c for c, _ in sessions(en)]
    for kind in ("sh", "python", "pycon", "bibtex"):
        for one, other in zip_longest(blocks(en, kind), blocks(zh, kind)):
            assert bare_code(one) == bare_code(other)
    assert {kind for kind, _ in BLOCK.findall(read(en))} <= {"console", "sh", "python", "pycon", "bibtex"}


def figures(page):
    """Every number of two digits and more in the prose."""
    return sorted(set(re.findall(r"\d[\d,.]*\d", re.sub(r"\]\([^)]*\)", "", prose(page)))))


def inline_code(page):
    """The `code` in the prose, without Chinese fragments."""
    return sorted({code for code in re.findall(r"`([^`\n]+)`", prose(page)) if re.fullmatch(r"[\x00-\x7f…·]+", code)})


@pytest.mark.parametrize(("en", "zh"), PAIRS)
def test_both_languages_have_the_same_content(en, zh):
    """The same levels of headings, figures, code and tables, so that an addition to one page is missed on the other."""
    outline = [re.findall(r"^#+ ", prose(page), re.MULTILINE) for page in (en, zh)]
    assert outline[0] == outline[1]
    assert figures(en) == figures(zh)
    assert inline_code(en) == inline_code(zh)
    tables = [re.findall(r"^\|.*\|$", prose(page), re.MULTILINE) for page in (en, zh)]
    assert [row.count("|") for row in tables[0]] == [row.count("|") for row in tables[1]]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "pycon")])
def test_a_session_has_the_output_shown(page):
    body = "\n".join(blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(body, {}, page, page, 0)
    failures, tried = doctest.DocTestRunner().run(test)
    assert (failures, tried > 10) == (0, True)


def test_there_are_sessions():
    assert sum(body.count(">>> ") for page in PAGES for body in blocks(page, "pycon")) >= 60


@pytest.mark.parametrize("page", READMES.values())
def test_two_commands_set_everything_up(page):
    """Each one line, in its own virtual environment; CI extracts both from README.md and runs them."""
    first, second = (body.strip() for body in blocks(page, "sh"))
    assert "\n" not in first + second
    assert first.startswith('python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/kvsim trace "中华人民"')
    assert second == ('python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/python -m pytest -q')
    assert "python3-venv" in read(page)


def test_install_lines_work_from_a_clone():
    """kvsim is on no package index, so extras are installed from the folder; their names are those of setup.cfg."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    sources = [path for kind in ("*.py", "*.po") for path in (ROOT / "kvsim").rglob(kind)]
    texts = [path.read_text(encoding="utf-8") for path in sources] + [read(page) for page in PAGES]
    assert [text for text in texts if "kvsim[" in text] == []
    named = re.findall(r'pip install (?:-q )?(?:-e )?\\?"\.\[([\w,]+)\]', "\n".join(texts))
    assert {extra for group in named for extra in group.split(",")} == extras
    for page in ("docs/en/install.md", "docs/zh/install.md"):
        assert [extra for extra in extras if f"| `{extra}` |" not in read(page)] == []


def anchors(page):
    """The fragments that GitHub generates for the page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_link_has_a_target(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if fragment:
            assert fragment in anchors(file.resolve().relative_to(ROOT.resolve())), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page):
    text = read(page)
    files = re.findall(r"\b(?:kvsim|tests|examples)/[\w/.-]+\.(?:py|md|txt|jsonl?)\b", text)
    modules = re.findall(r"python -m (tests[\w.]+)", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert [name for name in modules if find_spec(name) is None] == []


def test_versions_agree():
    for page in READMES.values():
        assert f"version = {{{kvsim.__version__}}}" in read(page)
    assert f"## {kvsim.__version__}" in read("CHANGELOG.md")


@pytest.mark.parametrize("language", READMES)
def test_every_family_is_named(language):
    from kvsim.loading.families import FAMILIES

    assert [family for family in FAMILIES if f"`{family}`" not in read(f"docs/{language}/models.md")] == []


def test_counts_in_the_texts():
    """The numbers of claims, mistakes, models, devices and families."""
    from kvsim.costs.claims import list_claims
    from kvsim.costs.public.devices import read_devices
    from kvsim.costs.public.models import read_catalogue
    from kvsim.loading.families import FAMILIES
    from kvsim.testing.bank import BANK

    claims = len(list(list_claims()))
    english, chinese = read_all("en"), read_all("zh")
    for count, one, other in (
        (claims, "claims", "条说法"),
        (len(BANK), "named mistakes", "种有名字的错误"),
        (len(read_catalogue()), "public models", "个公开模型"),
        (len(read_devices()), "devices", "种设备"),
        (len(FAMILIES), "families", "个家族"),
    ):
        assert f"{count:,} {one}" in english
        assert f"{count:,} {other}" in chinese
