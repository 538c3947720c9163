"""`kvsim trace TEXT`: the main job."""

import re
import sys
from typing import TYPE_CHECKING

import click

from kvsim.cli.options import (
    Bar,
    Number,
    check_text,
    common,
    complete_cache,
    complete_model,
    known,
    note_unknown,
    one_of,
    use_color,
)
from kvsim.counting.events import COUNTS
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import Say

if TYPE_CHECKING:
    from kvsim.comparisons.trace_record import Trace

SHOWS = ("table", "cells", "shapes", "sites", "memory")
EXAMPLES = (
    '\n\n\b\n  kvsim trace "中华人民"\n  kvsim trace "What is KV caching?" -n 20 --feed prefill --show table,memory'
    '\n  kvsim trace "中华人民" --backend exact'
)


def _rows(value: str) -> int | None:
    """How many rows a table shows; None for all."""
    if value == "all":
        return None
    if not (re.fullmatch(r"[0-9]{1,9}", value) and int(value) >= 2):
        raise UsageError("--rows takes all, or a whole number of at least 2, got {value}", value=shortened(value))
    return int(value)


def _shows(value: str | None, step: int | None) -> list[str]:
    """What to show: the table, or with --step alone that step's cells."""
    if value is None:
        return ["table" if step is None else "cells"]
    shows = [one_of("--show", show, SHOWS) for show in value.split(",")]
    if step is not None and not {"cells", "shapes"} & set(shows):
        raise UsageError("--step goes with --show cells or --show shapes")
    return shows


def _check_step(step: int | None, total: int) -> None:
    """Refuse a step that the trace will not have, before the others are run."""
    if step is not None and not 1 <= step <= total:
        raise UsageError("there is no step {number}: this trace has steps 1 to {last}", number=step, last=total)


def command(say: Say) -> click.Command:
    @click.command(
        "trace",
        help=say("Generate from TEXT twice, without and with a cache, and show every step of both side by side."),
        epilog=say("Examples:") + EXAMPLES,
    )
    @click.argument("text")
    @click.option(
        "-n", "--max-new-tokens", type=Number(int), default=4, show_default=True, help=say("New tokens to generate.")
    )
    @click.option(
        "--feed",
        default="token",
        show_default=True,
        metavar="token|prefill|chunk:K",
        shell_complete=known("token", "prefill", "chunk:"),
        help=say("How the prompt is fed: token by token, at once, or K tokens to a step."),
    )
    @click.option(
        "--cache",
        default="dynamic",
        show_default=True,
        metavar="SPEC",
        shell_complete=complete_cache,
        help=say("The cache, a lossless one: see kvsim caches."),
    )
    @click.option(
        "--count",
        default="cells",
        show_default=True,
        metavar="|".join(COUNTS),
        shell_complete=known(*COUNTS),
        help=say("What the table counts; macs and flops are of the whole model."),
    )
    @click.option(
        "--model",
        default="demo",
        show_default=True,
        metavar="demo|DIR|FILE.gguf",
        shell_complete=complete_model,
        help=say("The model: a bundled one, a folder in Hugging Face's format, or a GGUF file."),
    )
    @click.option(
        "--backend",
        metavar="numpy|cupy|torch|exact",
        shell_complete=known("numpy", "cupy", "torch", "exact"),
        help=say("The array library that computes; else KVSIM_BACKEND, or numpy."),
    )
    @click.option("--device", help=say("The backend's device; its own choice by default."))
    @click.option(
        "--dtype",
        default="float32",
        show_default=True,
        shell_complete=known("float32", "float64", "float16", "bfloat16"),
        help=say("What everything is computed in."),
    )
    @click.option(
        "--show",
        metavar=",".join(SHOWS),
        shell_complete=known(*SHOWS),
        help=say(
            "What to show, one or several: the table of steps (the default), one step's score cells,"
            " its products' shapes, the sites of all products, the cache's memory."
        ),
    )
    @click.option("--step", type=Number(int), help=say("Which step cells and shapes show; the last by default."))
    @click.option(
        "--rows",
        default="40",
        show_default=True,
        metavar="N|all",
        help=say("Steps that a table shows at most; its totals are of all steps."),
    )
    @click.option(
        "--temperature",
        type=Number(float),
        default=0.0,
        show_default=True,
        help=say("0 takes the likeliest token; above 0 draws one."),
    )
    @click.option("--top-k", type=Number(int), help=say("Draw among the K likeliest tokens."))
    @click.option("--top-p", type=Number(float), help=say("Draw among the likeliest tokens that together hold P."))
    @click.option("--seed", type=Number(int), default=0, show_default=True, help=say("Where the draws start."))
    @click.option(
        "--json", "as_json", is_flag=True, help=say("Print one JSON object (its schema: kvsim schema trace).")
    )
    @click.option(
        "--ascii", "ascii_only", is_flag=True, help=say("Draw with ASCII characters; the text itself stays as it is.")
    )
    @common(say)
    def trace(
        text: str, max_new_tokens: int, feed: str, cache: str, count: str, model: str, backend: str | None,
        device: str | None, dtype: str, show: str | None, step: int | None, rows: str, temperature: float,
        top_k: int | None, top_p: float | None, seed: int, as_json: bool, ascii_only: bool,
    ) -> int:  # fmt: skip
        one_of("--count", count, COUNTS)
        shows, most = _shows(show, step), _rows(rows)
        check_text(text)
        if as_json and (show is not None or step is not None):
            raise UsageError("--json holds everything: leave out --show and --step")

        from kvsim.comparisons.trace import trace as run_trace

        with Bar(say("steps"), check=lambda total: _check_step(step, total)) as bar:
            result = run_trace(
                text, model, max_new_tokens, feed, cache=cache, backend=backend, device=device, dtype=dtype,
                temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, progress=bar,
            )  # fmt: skip
        note_unknown(result.unknown, say)
        if as_json:
            click.echo(result.to_json())
        else:
            color = use_color(sys.stdout)
            told = _tell(result, say, shows, count, step, most, ascii_only, color, backend is not None)
            click.echo("\n\n".join(told), color=color)
        return 0 if result.agrees or result.differs_by_design else 1

    return trace


def _tell(
    result: "Trace",
    say: Say,
    shows: list[str],
    count: str,
    step: int | None,
    rows: int | None,
    ascii_only: bool,
    color: bool,
    explained: bool,
) -> list[str]:
    """Each view that was asked for, as text; only its own module is imported."""

    def tell(show: str) -> str:
        if show == "table":
            from kvsim.views.terminal.trace import tell_table

            return tell_table(result, say, count, rows, ascii_only, color, explained)
        if show == "cells":
            from kvsim.views.terminal.cells import tell_cells

            return tell_cells(result, say, step, ascii_only, color)
        from kvsim.views.terminal import trace_tables as tables

        if show == "shapes":
            return tables.tell_shapes(result, say, step, ascii_only, color)
        if show == "sites":
            return tables.tell_sites(result, say, ascii_only, color)
        return tables.tell_memory(result, say, rows, ascii_only, color)

    return [tell(show) for show in shows]
