"""The glossary: twenty terms in both languages, each visible in the output of its command."""

import pytest
from rich.cells import cell_len

from kvsim.cli import run
from kvsim.learn.glossary import read_words


def test_both_languages_have_the_same_twenty_terms():
    english, chinese = read_words("en"), read_words("zh")
    assert len(english) == 20
    assert [(one.id, one.command) for one in english] == [(one.id, one.command) for one in chinese]
    assert all(not one.means.isascii() for one in chinese)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_is_seen_in_the_output_of_its_command(language, capsys):
    printed: dict[str, str] = {}
    for word in read_words(language):
        if word.command not in printed:
            assert run([*word.command.split()[1:], "--lang", language]) == 0
            printed[word.command] = capsys.readouterr().out
        assert word.shows in printed[word.command], word


def test_the_command(capsys):
    assert run(["learn", "words", "--lang", "zh"]) == 0
    out = capsys.readouterr().out
    assert len(out.split("\n\n")) == 20
    assert [line for line in out.splitlines() if cell_len(line) > 80] == []
    assert run(["learn", "words", "预填充", "--lang", "zh"]) == 0
    assert capsys.readouterr().out.startswith("预填充 (prefill)\n")
    assert run(["learn", "words", "nothing", "--lang", "en"]) == 2
    assert "unknown word 'nothing': use one of token, step" in capsys.readouterr().err
