"""Help pages fit a terminal of 60 and of 80 columns in both languages, and say everything."""

import click
import pytest
from rich.cells import cell_len

from kvsim.cli import COMMANDS, LazyGroup
from kvsim.cli.help import Context
from kvsim.i18n.language import words


def help_of(name: str | None, language: str, width: int) -> str:
    group = LazyGroup(words(language))
    with Context(group, info_name="kvsim", terminal_width=width - 2) as context:
        if name is None:
            return group.get_help(context)
        command = group.get_command(context, name)
        assert command is not None
        assert command.context_class is Context
        return command.get_help(Context(command, parent=context, info_name=name, terminal_width=width - 2))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80])
def test_help_fits(language, width):
    for name in (None, *COMMANDS):
        for line in help_of(name, language, width).splitlines():
            assert cell_len(line) <= width, (name, line)
            assert line.lstrip()[:1] not in ("，", "。", "；", "）"), (name, line)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_narrow_page_says_what_a_wide_one_says(language):
    for name in COMMANDS:  # the list of commands is cut by click, at "..."
        narrow, wide = (help_of(name, language, width).split() for width in (60, 1000))
        assert "".join(narrow).replace("\\", "") == "".join(wide)


def test_examples_stay_lines_of_their_own():
    text = help_of("memory", "en", 80)
    assert "\n    kvsim memory llama-2-7b-hf --dtype float16 --context 4096,32768\n    kvsim memory gemma" in text


def test_an_english_page_is_clicks_own():
    """In English, where characters and cells are the same, options stand as click writes them."""
    theirs = click.HelpFormatter(width=78)
    rows = [("--aa, --bbb TEXT", "What it does, in a sentence that is long enough for a second line of its own.")]
    ours = Context.formatter_class(width=78)
    for formatter in (theirs, ours):
        formatter.indent()
        formatter.write_dl(rows)
    assert ours.getvalue() == theirs.getvalue()
