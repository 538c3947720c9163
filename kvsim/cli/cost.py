"""`kvsim cost MODEL`: FLOPs, bytes and the roofline of answering a prompt, exact, without data."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvsim.cli.options import (
    Decorated,
    Number,
    combine,
    common,
    complete_config,
    complete_device,
    known,
    note,
    note_assumed,
    one_of,
    shown,
)
from kvsim.cli.plotting import BARS, check_plot, plot_option, write_plot
from kvsim.cli.screen import find_screen, show
from kvsim.errors import UsageError
from kvsim.i18n.language import Say

if TYPE_CHECKING:
    from kvsim.costs.public.devices import Device
    from kvsim.costs.work.by_context import Point
    from kvsim.costs.work.conventions import Convention
    from kvsim.costs.work.cost import Cost

EXAMPLES = (
    "\n\n\b\n  kvsim cost llama-2-7b-hf --prompt 4096 --new 128 --device a10"
    "\n  kvsim cost deepseek-v3 --latent absorbed --convention causal --plot"
)


@dataclass(frozen=True)
class Options:
    """The options of the command, as click reads them."""

    model: str
    prompt: int
    new: int
    convention: str
    cache: str
    device: str | None
    dtype: str
    overhead: float | None
    latent: str | None
    source: int | None
    plot: str | Path | None
    as_json: bool
    ascii_only: bool
    verbose: bool


def _read_overhead(overhead: float | None, device: str | None) -> Fraction:
    """The seconds that every step takes beside its roofline. UsageError: no device, or not a number of at least 0."""
    if overhead is None:
        return Fraction(0)
    if device is None:
        raise UsageError("--overhead goes with --device")
    if not (math.isfinite(overhead) and overhead >= 0.0):
        raise UsageError("--overhead takes seconds, at least 0, got {value}", value=overhead)
    return Fraction(repr(overhead))  # as written: 0.01 is one hundredth


def _note_lengths(found: "Cost", say: Say) -> None:
    """Notes on lengths beyond the model's own."""
    count, config = found.count, found.config
    last = count.prompt + count.new - 1
    if last > config.max_context:
        text = say("note: {asked} tokens are beyond the context of {model}, {context}: counted anyway")
        note(text.format(asked=f"{last:,}", model=count.model, context=f"{config.max_context:,}"))
    if config.encoder is not None and count.source > config.encoder.max_context:
        text = say("note: a source of {asked} positions is beyond the encoder's {context}: counted anyway")
        note(text.format(asked=f"{count.source:,}", context=f"{config.encoder.max_context:,}"))


def run_cost(options: Options, say: Say) -> int:
    """Count, and print the result. UsageError, FileError: as `kvsim.cost`."""
    from kvsim.costs.public.devices import find_device
    from kvsim.costs.work.by_context import measure_by_context
    from kvsim.costs.work.conventions import CONVENTIONS
    from kvsim.costs.work.cost import cost

    if options.verbose:
        note_assumed(say, options.model)
    chosen = one_of("--convention", options.convention, (*CONVENTIONS, "all"))
    conventions = [c for c in CONVENTIONS if chosen in (c, "all")]
    if isinstance(options.plot, Path):
        check_plot(options.plot)
    overhead = _read_overhead(options.overhead, options.device)
    device = None if options.device is None else find_device(options.device)
    if device is not None:
        device.peak(options.dtype)
    found = cost(
        options.model, prompt=options.prompt, new=options.new, cache=options.cache, dtype=options.dtype,
        latent=options.latent, source=options.source,
    )  # fmt: skip
    _note_lengths(found, say)
    points = measure_by_context(found, conventions[-1]) if options.plot is not None else None
    _print_cost(options, found, conventions, device, overhead, points, say)
    return 0


def _print_cost(
    options: Options, found: "Cost", conventions: "list[Convention]", device: "Device | None", overhead: Fraction,
    points: "list[Point] | None", say: Say,
) -> None:  # fmt: skip
    """Write JSON, or tables and bars, to stdout, and the charts to their file."""
    from kvsim.costs.work.roofline import Limits

    screen = find_screen(options.ascii_only)
    limits = None if device is None else Limits(device.peak(options.dtype), device.bandwidth, overhead)
    if options.as_json:
        from kvsim.schemas import dump
        from kvsim.views.json.cost import to_dict

        click.echo(dump(to_dict(found, conventions, device, limits, points)))
    else:
        from kvsim.views.terminal.cost import format_cost

        show(format_cost(found, conventions, device, limits, say, screen), screen)
    if points is not None and options.plot == BARS and not options.as_json:
        from kvsim.views.terminal.bars import to_bars

        show(to_bars(points, conventions[-1], say, screen), screen)
    if points is not None and isinstance(options.plot, Path):
        from kvsim.views.plot.cost import draw_cost

        write_plot(options.plot, partial(draw_cost, found, points, conventions[-1], device, limits), say)


def _run_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options that define the run."""
    return combine(
        click.option("--prompt", type=Number(int), default=512, show_default=True, help=say("Tokens of the prompt.")),
        click.option("-n", "--new", type=Number(int), default=128, show_default=True, help=say("New tokens.")),
        click.option(
            "--convention",
            default="all",
            show_default=True,
            metavar="square|causal|last|all",
            shell_complete=known("square", "causal", "last", "all"),
            help=say("What is counted: full squares; pairs that the mask admits; these with the head on one position."),
        ),
        click.option(
            "--cache",
            default="dynamic",
            show_default=True,
            metavar="SPEC",
            shell_complete=known("dynamic", "none", "static:", "window:"),
            help=say("The cache, such as dynamic or window:256; none keeps nothing."),
        ),
        click.option(
            "--dtype", default="bfloat16", show_default=True, help=say("The data type of weights, keys and values.")
        ),
        click.option(
            "--latent",
            metavar="reexpanded|absorbed|cached_expanded",
            shell_complete=known("reexpanded", "absorbed", "cached_expanded"),
            help=say("How latent attention is computed; reexpanded by default."),
        ),
        click.option("--source", type=Number(int), help=say("Positions that an encoder reads.")),
    )


def command(say: Say) -> click.Command:
    @click.command(
        "cost",
        help=say("Count the costs of answering a prompt: FLOPs and bytes, prefill and decode apart, with a cache and"
                 " without. MODEL: a public model's name, a folder with config.json, or such a file."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @click.argument("model", shell_complete=complete_config)
    @_run_options(say)
    @click.option(
        "--device", metavar="NAME", shell_complete=complete_device,
        help=say("Add the roofline of this device, such as t4 or a10."),
    )  # fmt: skip
    @click.option("--overhead", type=Number(float), metavar="S", help=say("Seconds added to every step's roofline."))
    @plot_option(
        say("Plot FLOPs a token over context, and with --device the roofline, to this file: .svg, .png or .pdf. Without"
            " a file (then as the last option): bars on the terminal."),
        bars=True,
    )  # fmt: skip
    @click.option("-v", "--verbose", is_flag=True, help=say("List the fields that the config.json leaves out."))
    @shown(say, "cost")
    @common(say)
    def cost(**options: Any) -> int:
        return run_cost(Options(**options), say)

    return cost
