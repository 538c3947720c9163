"""`kvsim compare TEXT`: several caches fed the same tokens."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from kvsim.cli.options import (
    Bar,
    check_text,
    common,
    complete_cache,
    complete_file,
    generating,
    note_unknown,
    running,
    shown,
)
from kvsim.cli.page import check_page, page_options, show_page
from kvsim.cli.plotting import check_plot, plot_option, write_plot
from kvsim.cli.screen import find_screen, show
from kvsim.errors import UsageError
from kvsim.i18n.language import Say

EXAMPLES = (
    '\n\n\b\n  kvsim compare "床前明月光，疑是地上霜。" --cache window:4 --cache none'
    "\n  kvsim compare --file text.txt --cache window:64 --feed chunk:16 -n 32 --json"
    '\n  kvsim compare "床前明月光" --cache sinks:2+5 --cache h2o:6 --html page.html --open'
)


@dataclass(frozen=True)
class Options:
    """The argument and options of the command, as click reads them."""

    text: str | None
    file: str | None
    caches: tuple[str, ...]
    max_new_tokens: int
    feed: str
    model: str
    backend: str | None
    device: str | None
    dtype: str
    plot: Path | None
    html: Path | None
    open_page: bool
    as_json: bool
    ascii_only: bool


def _read(text: str | None, file: str | None) -> str:
    """TEXT, or the content of the file. UsageError: both or neither. FileError: as `read_text`."""
    if (text is None) == (file is None):
        raise UsageError("give the text once: as TEXT, or with --file FILE (- for stdin)")
    if file is None:
        assert text is not None
        return text
    from kvsim.loading.text_file import read_text

    return read_text(file)


def show_comparison(options: Options, say: Say) -> int:
    """Run every cache and print the comparison. The exit code: 1 if a lossless one differs by more than is allowed."""
    prompt = _read(options.text, options.file)
    check_text(prompt)
    if options.plot is not None:
        check_plot(options.plot)
    check_page(options.html, options.open_page)

    from kvsim.comparisons.policies import compare

    with Bar(say("steps")) as bar:
        result = compare(
            prompt, options.model, options.caches or None, options.max_new_tokens, options.feed,
            backend=options.backend, device=options.device, dtype=options.dtype,
            history=options.html is not None, progress=bar,
        )  # fmt: skip
    note_unknown(result.unknown, say)
    show_page(result, options.html, options.open_page, say)
    if options.as_json:
        click.echo(result.to_json())
    else:
        from kvsim.views.terminal.policies import format_comparison

        screen = find_screen(options.ascii_only)
        show(format_comparison(result, say, screen), screen)
    if options.plot is not None:
        from kvsim.views.plot.policies import draw_comparison

        write_plot(options.plot, partial(draw_comparison, result), say)
    return 0 if result.agrees else 1


def command(say: Say) -> click.Command:
    @click.command(
        "compare",
        help=say("Feed the same tokens to several caches, and compare their bytes, their matrix products, and their"
                 " logits with those of a cache that keeps every row."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @click.argument("text", required=False)
    @click.option(
        "--file", metavar="FILE", shell_complete=complete_file, help=say("Read the text from a file; - for stdin.")
    )
    @click.option(
        "--cache", "caches", multiple=True, metavar="SPEC", shell_complete=complete_cache,
        help=say("A cache policy (kvsim caches lists them); repeatable. By default an example of every lossy one."),
    )  # fmt: skip
    @generating(say, new=16, feed="prefill")
    @running(say)
    @plot_option(say("Plot bytes held and mean KL of every cache, to this file: .svg, .png or .pdf."))
    @page_options(say)
    @shown(say, "compare")
    @common(say)
    def compare(**given: Any) -> int:
        return show_comparison(Options(**given), say)

    return compare
