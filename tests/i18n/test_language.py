"""The catalogue is complete, compiled, and keeps placeholders; the choice of the language."""

import gettext
import os
import string
from functools import cache

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from kvsim.cli import run
from kvsim.errors import FileError, UsageError, Words
from kvsim.i18n.language import LANGUAGES, LOCALE, choose_language, explain, words
from tests.catalogue import find_messages

PO = LOCALE / "zh" / "LC_MESSAGES" / "kvsim.po"


@cache
def catalogue():
    with PO.open("rb") as file:
        return {m.id: m.string for m in read_po(file, locale="zh") if m.id}


def test_every_message_is_translated_and_none_is_stale():
    assert set(catalogue()) == set(find_messages())
    assert all(catalogue().values())


def fields(template):
    return sorted(name for _, name, _, _ in string.Formatter().parse(template) if name is not None)


def test_translations_keep_the_placeholders():
    assert [message for message, told in catalogue().items() if fields(told) != fields(message)] == []


def test_the_compiled_file_is_that_of_the_source():
    """To compile: pybabel compile -D kvsim -d kvsim/locale"""
    with PO.with_suffix(".mo").open("rb") as file:
        compiled = {m.id: m.string for m in read_mo(file) if m.id}
    assert compiled == catalogue()


@pytest.mark.parametrize(
    ("option", "environment", "language"),
    [
        (None, {}, "en"),
        ("zh", {"KVSIM_LANG": "en"}, "zh"),
        ("auto", {"KVSIM_LANG": "zh"}, "zh"),
        (None, {"KVSIM_LANG": "en", "LC_ALL": "zh_CN.UTF-8"}, "en"),
        (None, {"KVSIM_LANG": "auto", "LANG": "zh_CN.UTF-8"}, "zh"),
        (None, {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        (None, {"LC_ALL": "", "LC_MESSAGES": "zh_TW", "LANG": "en_US"}, "zh"),
        (None, {"LANG": "fr_FR.UTF-8"}, "en"),
    ],
)
def test_the_choice_of_language(option, environment, language):
    assert choose_language(option, environment) == language


@pytest.mark.parametrize(("option", "environment"), [("fr", {}), (None, {"KVSIM_LANG": "fr"})])
def test_an_unknown_language(option, environment):
    with pytest.raises(UsageError, match="unknown language 'fr': use zh, en or auto"):
        choose_language(option, environment)


def test_errors_speak_the_language():
    error = FileError(
        "{path}: {key} is {value}, expected {expected}",
        path="p",
        key="k",
        value=0,
        expected=Words("a positive integer"),
    )
    assert explain(error, words("en")) == "p: k is 0, expected a positive integer" == str(error)
    assert explain(error, words("zh")) == "p：k 应为 正整数，收到 0"


def test_what_a_user_wrote_is_never_translated():
    assert "total" in explain(
        UsageError("unknown cache {spec}: use one of {known}", spec="total", known="a"), words("zh")
    )


def test_both_languages_are_there():
    assert LANGUAGES == ("en", "zh")
    assert isinstance(gettext.translation("kvsim", LOCALE, ["zh"]), gettext.GNUTranslations)
    assert words("zh")("saved") == "节省"
    assert words("en")("saved") == "saved"


@pytest.mark.parametrize(
    ("argv", "before"),
    [(["verify", "examples/wrong_cache.py:WrongCache"], None), (["explain", "mask_top_left"], "en")],
    ids=["verify", "explain"],
)
def test_a_command_leaves_the_environment_as_it_was(argv, before, monkeypatch, capsys):
    monkeypatch.delenv("KVSIM_LANG", raising=False)
    if before is not None:
        monkeypatch.setenv("KVSIM_LANG", before)
    run([*argv, "--lang", "zh"])
    assert "诊断" in capsys.readouterr().out
    assert os.environ.get("KVSIM_LANG") == before
