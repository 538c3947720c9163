"""`kvsim trace TEXT`: the same generation without and with a cache, step by step."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvsim.checks import parse_whole
from kvsim.cli.options import (
    Bar,
    Decorated,
    Number,
    OutputFile,
    check_text,
    combine,
    common,
    complete_cache,
    complete_file,
    generating,
    known,
    note_unknown,
    one_of,
    running,
    shown,
)
from kvsim.cli.page import check_page, page_options, show_page
from kvsim.cli.perfetto import perfetto_options, plan_recording
from kvsim.cli.screen import find_screen, show
from kvsim.counting.events import COUNTS
from kvsim.errors import UsageError, shortened
from kvsim.files.writing import check_apart, check_writable
from kvsim.i18n.language import Say

if TYPE_CHECKING:
    from kvsim.cli.perfetto import Recording
    from kvsim.comparisons.trace_record import Trace
    from kvsim.views.terminal.screen import Screen

SHOWS = ("table", "cells", "shapes", "sites", "memory")
EXAMPLES = (
    '\n\n\b\n  kvsim trace "中华人民"\n  kvsim trace "What is KV caching?" -n 20 --feed prefill --show table,memory'
    '\n  kvsim trace "中华人民" --backend exact'
    '\n  kvsim trace "中华人民" --step 7 --svg step7.svg'
    '\n  kvsim trace "中华人民" --html page.html --open'
)


@dataclass(frozen=True)
class Options:
    """The argument and options of the command, as click reads them."""

    text: str
    max_new_tokens: int
    feed: str
    cache: str
    count: str
    model: str
    backend: str | None
    device: str | None
    dtype: str
    show: str | None
    step: int | None
    rows: str
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int
    svg: Path | None
    perfetto: Path | None
    clock: str | None
    html: Path | None
    open_page: bool
    as_json: bool
    ascii_only: bool


def _read_rows(value: str) -> int | None:
    """--rows: the most steps that a table shows; None for "all". UsageError: another value."""
    if value == "all":
        return None
    rows = parse_whole("--rows", value) if re.fullmatch(r"[0-9]+", value) else 0
    if rows < 2:
        raise UsageError("--rows takes all, or a whole number of at least 2, got {value}", value=shortened(value))
    return rows


def _read_shows(value: str | None, step: int | None, svg: Path | None) -> list[str]:
    """--show: some of SHOWS; without it the table, or the cells of --step. UsageError: an unknown one, or a --step that
    neither of them nor --svg uses."""
    if value is None:
        return ["table" if step is None else "cells"]
    shows = [one_of("--show", show, SHOWS) for show in value.split(",")]
    if step is not None and svg is None and not {"cells", "shapes"} & set(shows):
        raise UsageError("--step goes with --show cells or --show shapes")
    return shows


def _check_steps(options: Options, total: int) -> None:
    """UsageError: the trace of `total` steps will not have that of --step, or has too many for --svg. Raised before all
    of them have run."""
    if options.step is not None and not 1 <= options.step <= total:
        raise UsageError("there is no step {number}: this trace has steps 1 to {last}", number=options.step, last=total)
    if options.svg is not None and options.step is None:
        from kvsim.views.picture.trace import check_steps

        check_steps(total)


def _write_svg(trace: "Trace", path: Path, step: int | None, say: Say) -> None:
    """Write the picture of a step, or of all steps."""
    from kvsim.files.writing import write_beside
    from kvsim.views.picture.trace import draw_step, draw_steps

    drawn = draw_steps(trace, say) if step is None else draw_step(trace, say, step)
    write_beside(path, drawn.encode())


def _check_outputs(options: Options) -> "Recording | None":
    """What --perfetto asks for, if the files of all options can be written beside each other. UsageError, FileError:
    they cannot."""
    if options.svg is not None:
        check_writable(options.svg)
    recording = plan_recording(options.perfetto, options.clock, options.dtype)
    check_page(options.html, options.open_page)
    check_apart(options.svg, options.perfetto, options.html)
    if options.html is not None and recording is not None and recording.device is None:
        raise UsageError(
            "--html records values, which --clock measured would time: use --clock model:DEVICE, or two commands"
        )
    return recording


def show_trace(options: Options, say: Say) -> int:
    """Run both generations and print the trace. The exit code: 1 if logits differ by more than is allowed."""
    one_of("--count", options.count, COUNTS)
    shows, rows = _read_shows(options.show, options.step, options.svg), _read_rows(options.rows)
    check_text(options.text)
    if options.as_json and (options.show is not None or (options.step is not None and options.svg is None)):
        raise UsageError("--json holds everything: leave out --show and --step")
    recording = _check_outputs(options)

    from kvsim.comparisons.trace import trace

    def check(total: int) -> None:
        _check_steps(options, total)
        if recording is not None:
            recording.check_steps(total)

    model = options.model if recording is None else recording.load(options.model, options.backend, options.device)
    with Bar(say("steps"), check=check) as bar:
        result = trace(
            options.text, model, options.max_new_tokens, options.feed, cache=options.cache,
            backend=options.backend, device=options.device, dtype=options.dtype, temperature=options.temperature,
            top_k=options.top_k, top_p=options.top_p, seed=options.seed,
            values=options.html is not None, progress=bar,
        )  # fmt: skip
    note_unknown(result.unknown, say)
    if options.svg is not None:
        _write_svg(result, options.svg, options.step, say)
    show_page(result, options.html, options.open_page, say)
    if options.as_json:
        click.echo(result.to_json())
    else:
        screen = find_screen(options.ascii_only)
        show("\n\n".join(_format(result, view, options, rows, screen, say) for view in shows), screen)
    if recording is not None:
        recording.write(result)
    return 0 if result.agrees or result.differs_by_design else 1


def _format(trace: "Trace", view: str, options: Options, rows: int | None, screen: "Screen", say: Say) -> str:
    """One view of the trace, one of SHOWS, as text."""
    if view == "table":
        from kvsim.views.terminal.trace import format_trace

        explained = options.backend is not None
        return format_trace(trace, say, options.count, rows, screen, explained)
    if view == "cells":
        from kvsim.views.terminal.cells import format_cells

        return format_cells(trace, say, options.step, screen)
    from kvsim.views.terminal.trace_tables import format_memory, format_shapes, format_sites

    if view == "shapes":
        return format_shapes(trace, say, options.step, screen)
    if view == "sites":
        return format_sites(trace, say, screen)
    return format_memory(trace, say, rows, screen)


def _view_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options that choose what is shown."""
    return combine(
        click.option(
            "--show",
            metavar=",".join(SHOWS),
            shell_complete=known(*SHOWS),
            help=say(
                "What to show, one or several: the table of steps (the default), one step's score cells,"
                " its products' shapes, the sites of all products, the cache's memory."
            ),
        ),
        click.option(
            "--step", type=Number(int), help=say("The step that cells and shapes show; the last by default.")
        ),
        click.option(
            "--svg", type=OutputFile(), metavar="FILE", shell_complete=complete_file,
            help=say("Draw the cells of all steps, or of --step, to this file, as SVG."),
        ),
        click.option(
            "--rows", default="40", show_default=True, metavar="N|all",
            help=say("The most steps that a table shows; its totals are of all steps."),
        ),
    )  # fmt: skip


def _sampling_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options of sampling."""
    return combine(
        click.option(
            "--temperature", type=Number(float), default=0.0, show_default=True,
            help=say("0: take the most likely token; above 0: sample."),
        ),
        click.option("--top-k", type=Number(int), help=say("Sample from the K most likely tokens.")),
        click.option(
            "--top-p", type=Number(float),
            help=say("Sample from the most likely tokens whose probabilities add up to P."),
        ),
        click.option("--seed", type=Number(int), default=0, show_default=True, help=say("The seed of sampling.")),
    )  # fmt: skip


def command(say: Say) -> click.Command:
    @click.command(
        "trace",
        help=say("Generate from TEXT twice, without and with a cache, and show every step of both side by side."),
        epilog=say("Examples:") + EXAMPLES,
    )
    @click.argument("text")
    @generating(say, new=4, feed="token")
    @click.option(
        "--cache", default="dynamic", show_default=True, metavar="SPEC", shell_complete=complete_cache,
        help=say("The cache policy, a lossless one; kvsim caches lists them."),
    )  # fmt: skip
    @click.option(
        "--count", default="cells", show_default=True, metavar="|".join(COUNTS), shell_complete=known(*COUNTS),
        help=say("What the table counts; macs and flops are of the whole model."),
    )  # fmt: skip
    @running(say)
    @_view_options(say)
    @page_options(say)
    @_sampling_options(say)
    @perfetto_options(say)
    @shown(say, "trace")
    @common(say)
    def trace(**given: Any) -> int:
        return show_trace(Options(**given), say)

    return trace
