"""`kvsim chat TEXT…`: a conversation of several turns through one cache."""

import re
import sys
from pathlib import Path

import click

from kvsim.cli.options import (
    Bar,
    Number,
    check_text,
    common,
    complete_cache,
    complete_file,
    note_unknown,
    running,
    shown,
    use_color,
)
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import Say

EXAMPLES = (
    '\n\n\b\n  kvsim chat "什么是KV缓存？" "床前明月光，" --edit "2:白日依山尽，"'
    "\n  kvsim chat --turns turns.json -n 16 --cache static:1024"
)


def _branch(option: str, value: str) -> tuple[int, str]:
    """N:TEXT."""
    found = re.fullmatch("([0-9]{1,9}):(.+)", value, re.DOTALL)
    if not found:
        raise UsageError("{option} takes N:TEXT, a turn's number and a text, got {value}", option=option,
                         value=shortened(value))  # fmt: skip
    check_text(found[2])
    return int(found[1]), found[2]


def _turns(texts: tuple[str, ...], file: str | None) -> list[str]:
    """The texts given, those of the file, or ours."""
    from kvsim.comparisons.chat_script import DEFAULT, read_turns

    if texts and file is not None:
        raise UsageError("give the turns once: as TEXT …, or with --turns FILE")
    for text in texts:
        check_text(text)
    return read_turns(Path(file)) if file is not None else list(texts or DEFAULT)


def command(say: Say) -> click.Command:
    @click.command(
        "chat",
        help=say("Say TEXT after TEXT to the model, and show what each turn costs with the cache of the turns before"
                 " and with a fresh one. Without any TEXT: four turns of our own."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @click.argument("texts", metavar="[TEXT]...", nargs=-1)
    @click.option(
        "--turns", metavar="FILE", shell_complete=complete_file, help=say("Read the turns: a JSON list of texts.")
    )
    @click.option(
        "-n",
        "--max-new-tokens",
        type=Number(int),
        default=8,
        show_default=True,
        help=say("New tokens of each reply."),
    )
    @click.option(
        "--fork",
        "forks",
        multiple=True,
        metavar="N:TEXT",
        help=say("Branch off after turn N with TEXT; again for more."),
    )
    @click.option(
        "--edit",
        "edits",
        multiple=True,
        metavar="N:TEXT",
        help=say("When all is said, replace turn N's text by TEXT; again for more."),
    )
    @click.option(
        "--separator", default="", help=say("What stands before every turn but the first; nothing by default.")
    )
    @click.option(
        "--cache",
        default="dynamic",
        show_default=True,
        metavar="SPEC",
        shell_complete=complete_cache,
        help=say("The cache, as kvsim caches lists them."),
    )
    @running(say)
    @shown(say, "chat")
    @common(say)
    def chat(
        texts: tuple[str, ...], turns: str | None, max_new_tokens: int, forks: tuple[str, ...],
        edits: tuple[str, ...], separator: str, cache: str, model: str, backend: str | None, device: str | None,
        dtype: str, as_json: bool, ascii_only: bool,
    ) -> int:  # fmt: skip
        check_text(separator)
        forked, edited = [_branch("--fork", v) for v in forks], [_branch("--edit", v) for v in edits]
        said = _turns(texts, turns)

        from kvsim.comparisons.chat_script import run_chat
        from kvsim.loading.loader import load

        loaded = load(model, backend=backend, device=device, dtype=dtype)
        with Bar(say("turns")) as bar:
            result = run_chat(
                said, loaded, cache, max_new_tokens, forks=forked, edits=edited, separator=separator, progress=bar
            )
        note_unknown(result.unknown, say)
        if as_json:
            click.echo(result.to_json())
        else:
            from kvsim.views.terminal.chat import tell_chat

            color = use_color(sys.stdout)
            click.echo(tell_chat(result, say, ascii_only, color), color=color)
        return 0 if result.agrees else 1

    return chat
