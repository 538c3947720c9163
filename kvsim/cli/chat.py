"""`kvsim chat TEXT…`: a conversation of several turns through one cache."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kvsim.checks import parse_whole
from kvsim.cli.options import (
    Bar,
    Decorated,
    Number,
    check_text,
    combine,
    common,
    complete_cache,
    complete_file,
    note_unknown,
    running,
    shown,
)
from kvsim.cli.page import check_page, page_options, show_page
from kvsim.cli.screen import find_screen, show
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import Say

EXAMPLES = (
    '\n\n\b\n  kvsim chat "什么是KV缓存？" "床前明月光，" --edit "2:白日依山尽，"'
    "\n  kvsim chat --turns turns.json -n 16 --cache static:1024"
    '\n  kvsim chat "床前明月光，" "今天天气" --edit "2:今天下雨" --html page.html --open'
)


@dataclass(frozen=True)
class Options:
    """The arguments and options of the command, as click reads them."""

    texts: tuple[str, ...]
    turns: str | None
    max_new_tokens: int
    forks: tuple[str, ...]
    edits: tuple[str, ...]
    separator: str
    cache: str
    model: str
    backend: str | None
    device: str | None
    dtype: str
    html: Path | None
    open_page: bool
    as_json: bool
    ascii_only: bool


def _read_branch(option: str, value: str) -> tuple[int, str]:
    """ "2:text" as (2, "text"). UsageError: another form."""
    found = re.fullmatch("([0-9]+):(.+)", value, re.DOTALL)
    if not found:
        raise UsageError("{option} takes N:TEXT, a turn's number and a text, got {value}", option=option,
                         value=shortened(value))  # fmt: skip
    check_text(found[2])
    return parse_whole(option, found[1]), found[2]


def _read_turns(texts: tuple[str, ...], file: str | None) -> list[str]:
    """The texts given, those of the file, or the default ones.

    UsageError: both texts and a file. FileError: as `read_turns`.
    """
    from kvsim.comparisons.chat_script import DEFAULT, read_turns

    if texts and file is not None:
        raise UsageError("give the turns once: as TEXT …, or with --turns FILE")
    for text in texts:
        check_text(text)
    return read_turns(Path(file)) if file is not None else list(texts or DEFAULT)


def show_chat(options: Options, say: Say) -> int:
    """Run the conversation and print it. The exit code: 1 if logits differ by more than is allowed."""
    check_text(options.separator)
    forks = [_read_branch("--fork", value) for value in options.forks]
    edits = [_read_branch("--edit", value) for value in options.edits]
    turns = _read_turns(options.texts, options.turns)
    check_page(options.html, options.open_page)

    from kvsim.comparisons.chat_script import run_chat
    from kvsim.loading.loader import load

    model = load(options.model, backend=options.backend, device=options.device, dtype=options.dtype)
    with Bar(say("turns")) as bar:
        result = run_chat(
            turns, model, options.cache, options.max_new_tokens, forks=forks, edits=edits,
            separator=options.separator,
            pieces=options.html is not None, progress=bar,
        )  # fmt: skip
    note_unknown(result.unknown, say)
    show_page(result, options.html, options.open_page, say)
    if options.as_json:
        click.echo(result.to_json())
    else:
        from kvsim.views.terminal.chat import format_chat

        screen = find_screen(options.ascii_only)
        show(format_chat(result, say, screen), screen)
    return 0 if result.agrees else 1


def _turn_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options that define the turns."""
    return combine(
        click.option(
            "--turns", metavar="FILE", shell_complete=complete_file, help=say("Read the turns: a JSON list of texts.")
        ),
        click.option(
            "-n", "--max-new-tokens", type=Number(int), default=8, show_default=True,
            help=say("New tokens of each reply."),
        ),
        click.option(
            "--fork", "forks", multiple=True, metavar="N:TEXT",
            help=say("Fork the conversation after turn N, and continue with TEXT; repeatable."),
        ),
        click.option(
            "--edit", "edits", multiple=True, metavar="N:TEXT",
            help=say("After the last turn, replace turn N by TEXT, and continue from there; repeatable."),
        ),
        click.option(
            "--separator", default="", help=say("Text inserted before every turn but the first; empty by default.")
        ),
    )  # fmt: skip


def command(say: Say) -> click.Command:
    @click.command(
        "chat",
        help=say("Feed each TEXT to the model as one turn of a conversation, and compare the costs of a turn with the"
                 " cache of the turns before and with a fresh one. Without TEXT: four built-in turns."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @click.argument("texts", metavar="[TEXT]...", nargs=-1)
    @_turn_options(say)
    @click.option(
        "--cache",
        default="dynamic",
        show_default=True,
        metavar="SPEC",
        shell_complete=complete_cache,
        help=say("The cache policy; kvsim caches lists them."),
    )
    @running(say)
    @page_options(say)
    @shown(say, "chat")
    @common(say)
    def chat(**given: Any) -> int:
        return show_chat(Options(**given), say)

    return chat
