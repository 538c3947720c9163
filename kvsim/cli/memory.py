"""`kvsim memory MODEL`: the size of weights and KV cache, exact."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from kvsim.checks import parse_whole
from kvsim.cli.options import (
    Decorated,
    Number,
    combine,
    common,
    complete_config,
    known,
    note,
    note_assumed,
    shown,
)
from kvsim.cli.plotting import check_plot, plot_option, write_plot
from kvsim.cli.screen import find_screen, show
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import Say

CONTEXTS = (4_096, 32_768, 131_072)  # by default, up to the model's own, which is always among them
UNBOUNDED = 2**31 - 1  # `max_context` of a model without a limit


@dataclass(frozen=True)
class Options:
    """The options of the command, as click reads them."""

    model: str
    contexts: tuple[str, ...]
    batch: int
    dtype: str
    cache_dtype: str | None
    block: int
    source: int | None
    plot: Path | None
    as_json: bool
    ascii_only: bool
    verbose: bool


def read_contexts(texts: tuple[str, ...]) -> list[int]:
    """The numbers in lists separated by commas: ("4096,32768", "8192") -> [4096, 32768, 8192]. UsageError: others."""
    words = [word for part in texts for word in part.split(",")]
    for word in words:
        if not re.fullmatch("[0-9]+", word):
            raise UsageError(
                "--context takes whole numbers, as in 4096,32768, got {value}", value=shortened(",".join(texts))
            )
    return [parse_whole("--context", word) for word in words]


def default_contexts(longest: int) -> list[int]:
    """Those of CONTEXTS below the model's own, and the model's own."""
    usual = [context for context in CONTEXTS if context < longest]
    return usual if longest >= UNBOUNDED else [*usual, longest]


def note_context(context: int, longest: int, say: Say) -> None:
    """A note, if `context` is beyond the model's own, `longest`."""
    if context > longest:
        text = say("note: a context of {context} is beyond the model's {longest}: counted anyway")
        note(text.format(context=f"{context:,}", longest=f"{longest:,}"))


def run_memory(options: Options, say: Say) -> int:
    """Count, and print the result. UsageError, FileError: as `measure_memory`. BackendError: no matplotlib to plot."""
    from kvsim.costs.bytes.memory import measure_memory
    from kvsim.costs.public.models import find_config, read_catalogue

    model, contexts = options.model, read_contexts(options.contexts)
    if options.plot is not None:
        check_plot(options.plot)
    if options.verbose:
        note_assumed(say, model)
    config = find_config(model)[1]
    measure = partial(
        measure_memory, model, batch=options.batch, dtype=options.dtype, cache_dtype=options.cache_dtype,
        block=options.block, source=options.source,
    )  # fmt: skip
    measured = measure(contexts or default_contexts(config.max_context))
    for context in contexts:
        note_context(context, config.max_context, say)
    if options.as_json:
        from kvsim.schemas import dump
        from kvsim.views.json.memory import to_dict

        click.echo(dump(to_dict(measured)))
    else:
        from kvsim.views.terminal.memory import format_memory

        screen = find_screen(options.ascii_only)
        facts = read_catalogue()[model]["source"] if model in read_catalogue() else model
        show(format_memory(measured, say, screen, facts, options.verbose), screen)
    if options.plot is not None:
        from kvsim.costs.bytes.curve import choose_curve
        from kvsim.views.plot.memory import draw_memory

        write_plot(options.plot, partial(draw_memory, measured, measure(choose_curve(measured))), say)
    return 0


def cache_dtype_help(say: Say) -> str:
    """The help of --cache-dtype."""
    return say(
        "The format of the cache: a dtype, int8, int4 or fp8 (int8:zero, int4:zero: with zero points); by default"
        " that of the weights."
    )


def _size_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options that define the sizes."""
    return combine(
        click.option(
            "--context", "contexts", multiple=True, metavar="N[,N...]", help=say("Tokens in the cache; several are"
                         " possible. By default common contexts, up to the model's own."),
        ),
        click.option("--batch", type=Number(int), default=1, show_default=True, help=say("Sequences of that length.")),
        click.option(
            "--dtype", default="bfloat16", show_default=True,
            shell_complete=known("float64", "float32", "float16", "bfloat16"),
            help=say("The data type of the weights."),
        ),
        click.option(
            "--cache-dtype", metavar="DTYPE", shell_complete=known("float16", "bfloat16", "int8", "int4", "fp8"),
            help=cache_dtype_help(say),
        ),
        click.option("--block", type=Number(int), default=16, show_default=True, help=say("Rows of a block.")),
        click.option("--source", type=Number(int), help=say("Encoder positions; a model with an encoder needs them.")),
        plot_option(say("Plot bytes over context, to this file: .svg, .png or .pdf.")),
    )  # fmt: skip


def command(say: Say) -> click.Command:
    @click.command(
        "memory",
        help=say(
            "Count the bytes of the weights of MODEL and of its KV cache: exact, in GiB and in GB. MODEL: a public"
            " model's name, a folder with config.json, or such a file."
        ),
        epilog=say("Examples:")
        + "\n\n\b\n  kvsim memory llama-2-7b-hf --dtype float16 --context 4096,32768"
        + "\n  kvsim memory gemma-3-27b-pt --cache-dtype int8 --context 131072",
    )
    @click.argument("model", shell_complete=complete_config)
    @_size_options(say)
    @click.option("-v", "--verbose", is_flag=True, help=say("List the model's fields that are used, and those that its"
                  " config.json leaves out."))  # fmt: skip
    @shown(say, "memory")
    @common(say)
    def memory(**options: Any) -> int:
        return run_memory(Options(**options), say)

    return memory
