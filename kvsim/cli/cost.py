"""`kvsim cost MODEL`: FLOPs, bytes and the roofline of answering a prompt, exact, without data."""

import math
import sys
from fractions import Fraction
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from kvsim.cli.options import Number, common, known, note, note_assumed, one_of, use_color
from kvsim.errors import UsageError
from kvsim.i18n.language import Say

EXAMPLES = (
    "\n\n\b\n  kvsim cost llama-2-7b-hf --prompt 4096 --new 128 --device a10"
    "\n  kvsim cost deepseek-v3 --latent absorbed --convention causal --plot"
)


def _complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The catalogue's names, folders and files."""
    from kvsim.costs.public.models import read_catalogue

    names = [CompletionItem(name) for name in read_catalogue() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def _complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from kvsim.costs.public.devices import read_devices

    return [CompletionItem(name) for name in read_devices() if name.startswith(incomplete)]


def _check_overhead(overhead: float | None, device: str | None) -> Fraction:
    """Seconds of a step beside its roofline."""
    if overhead is None:
        return Fraction(0)
    if device is None:
        raise UsageError("--overhead goes with --device")
    if not (math.isfinite(overhead) and overhead >= 0.0):
        raise UsageError("--overhead takes seconds, at least 0, got {value}", value=overhead)
    return Fraction(repr(overhead))  # as it was written: 0.01 is a hundredth


def command(say: Say) -> click.Command:
    @click.command(
        "cost",
        help=say("Count what answering a prompt costs: FLOPs and bytes, prefill and decode apart, with a cache and"
                 " without. MODEL: a name of the catalogue, a folder with config.json, or such a file."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @click.argument("model", shell_complete=_complete_model)
    @click.option("--prompt", type=Number(int), default=512, show_default=True, help=say("Tokens of the prompt."))
    @click.option("-n", "--new", type=Number(int), default=128, show_default=True, help=say("New tokens."))
    @click.option(
        "--convention",
        default="all",
        show_default=True,
        metavar="square|causal|last|all",
        shell_complete=known("square", "causal", "last", "all"),
        help=say("What is counted: full squares; pairs that the mask admits; these with the head on one position."),
    )
    @click.option(
        "--cache",
        default="dynamic",
        show_default=True,
        metavar="SPEC",
        shell_complete=known("dynamic", "none", "static:", "window:"),
        help=say("The cache, as in dynamic, window:256; none keeps nothing."),
    )
    @click.option("--device", metavar="NAME", shell_complete=_complete_device, help=say("Tell its roofline: t4, a10."))
    @click.option(
        "--dtype", default="bfloat16", show_default=True, help=say("What weights, keys and values are stored in.")
    )
    @click.option("--overhead", type=Number(float), metavar="S", help=say("Seconds added to every step's roofline."))
    @click.option(
        "--latent",
        metavar="reexpanded|absorbed|cached_expanded",
        shell_complete=known("reexpanded", "absorbed", "cached_expanded"),
        help=say("How latent attention is computed; reexpanded unless given."),
    )
    @click.option("--source", type=Number(int), help=say("Positions that an encoder reads."))
    @click.option("--plot", is_flag=True, help=say("Plot FLOPs a token over context."))
    @click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help=say("Write that plot to a file."))
    @click.option("--json", "as_json", is_flag=True, help=say("Print one JSON object."))
    @click.option(
        "--ascii", "ascii_only", is_flag=True, help=say("Draw with ASCII characters; the text itself stays as it is.")
    )
    @click.option("-v", "--verbose", is_flag=True, help=say("Tell what the config.json leaves out."))
    @common(say)
    def cost(
        model: str, prompt: int, new: int, convention: str, cache: str, device: str | None, dtype: str,
        overhead: float | None, latent: str | None, source: int | None, plot: bool, svg: Path | None, as_json: bool,
        ascii_only: bool, verbose: bool,
    ) -> int:  # fmt: skip
        from kvsim.costs.public.devices import find_device
        from kvsim.costs.work.by_context import grow
        from kvsim.costs.work.conventions import CONVENTIONS
        from kvsim.costs.work.cost import cost as find_cost
        from kvsim.costs.work.roofline import Limits
        from kvsim.files import write_beside

        if verbose:
            note_assumed(say, model)
        chosen = one_of("--convention", convention, (*CONVENTIONS, "all"))
        conventions = [c for c in CONVENTIONS if chosen in (c, "all")]
        if svg is not None and not svg.parent.is_dir():
            raise UsageError("there is no folder {folder} for {file}", folder=svg.parent, file=svg.name)
        seconds = _check_overhead(overhead, device)
        asked = None if device is None else find_device(device)
        limits = None if asked is None else Limits(asked.peak(dtype), asked.bandwidth, seconds)
        found = find_cost(model, prompt=prompt, new=new, cache=cache, dtype=dtype, latent=latent, source=source)
        last, room = prompt + new - 1, found.config.max_context
        if last > room:
            note(
                say("note: {asked} tokens are beyond the context of {model}, {context}: counted all the same").format(
                    asked=f"{last:,}", model=found.count.model, context=f"{room:,}"
                )
            )
        encoder = found.config.encoder
        if encoder is not None and found.count.source > encoder.max_context:
            told = say("note: a source of {asked} positions is beyond the encoder's {context}: counted all the same")
            note(told.format(asked=f"{found.count.source:,}", context=f"{encoder.max_context:,}"))
        growth = grow(found, conventions[-1]) if plot or svg is not None else None
        if as_json:
            from kvsim.views.json.cost import to_dict, to_json

            click.echo(to_json(to_dict(found, conventions, asked, limits, growth)))
        else:
            from kvsim.views.terminal.cost import tell_cost

            click.echo(tell_cost(found, conventions, asked, limits, say, ascii_only, use_color(sys.stdout)))
        if growth is not None:
            from kvsim.views.charts import to_bars, to_svg

            if plot and not as_json:
                click.echo(to_bars(growth, conventions[-1], say, ascii_only))
            if svg is not None:
                write_beside(svg, to_svg(growth, conventions[-1], found.count.model, say).encode())
        return 0

    return cost
