"""`kvsim plan MODEL --device NAME`: what fits, and `--sweep`: over a grid."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kvsim.cli.memory import complete_name, read_contexts
from kvsim.cli.options import Bar, Number, common, known, note, note_assumed, shown, use_color
from kvsim.errors import KvsimError, UsageError
from kvsim.i18n.language import Say, explain

if TYPE_CHECKING:
    from kvsim.costs.plans.sweep import Grid, Row

FROM_OPTIONS = "-"  # what --sweep without a file means


def complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Public devices' names."""
    from kvsim.costs.public.devices import read_devices

    return [CompletionItem(name) for name in read_devices() if name.startswith(incomplete)]


def one(option: str, values: Sequence[Any], default: Any) -> Any:
    """The only one of `values`. UsageError: several."""
    if len(values) > 1:
        raise UsageError("{option} was given {n} times: several make a sweep, which --sweep asks for", option=option,
                         n=len(values))  # fmt: skip
    return values[0] if values else default


def needed(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """`values`, which are there. UsageError: they are not."""
    if not values:
        raise UsageError("{name} is missing: kvsim plan MODEL --device NAME --context N", name=name)
    return values


def run_plan(asked: dict[str, Any], as_json: bool, ascii_only: bool, say: Say) -> int:
    """One plan on stdout."""
    from kvsim.costs.plans.planning import plan
    from kvsim.costs.plans.remedies import find_remedies
    from kvsim.views.terminal.plan import tell_plan, to_json

    model = one("MODEL", needed("MODEL", asked["models"]), None)
    contexts = read_contexts(tuple(needed("--context", asked["contexts"])))
    found = plan(
        model, one("--device", needed("--device", asked["names"]), None),
        one("--context", contexts, None), dtype=one("--dtype", asked["dtypes"], None),
        cache_dtype=one("--cache-dtype", asked["cache_dtypes"], None), source=asked["source"],
        utilization=one("--utilization", asked["utilizations"], "1"), devices=one("--devices", asked["parallel"], 1),
    )  # fmt: skip
    longest = found.setup.config.max_context
    if found.context > longest:
        told = say("note: a context of {context} is beyond the model's {longest}: counted all the same")
        note(told.format(context=f"{found.context:,}", longest=f"{longest:,}"))
    remedies = find_remedies(found)
    if as_json:
        click.echo(to_json(found, remedies))
    else:
        color = use_color(sys.stdout)
        click.echo(tell_plan(found, remedies, say, ascii_only, color), color=color)
    return 0


def find_grid(asked: dict[str, Any]) -> "Grid":
    """The grid of the file, or of the options."""
    from kvsim.costs.plans.sweep import make_grid, read_grid

    given = [name for name, values in asked.items() if values and name not in ("batches", "sweep")]
    if asked["sweep"] != FROM_OPTIONS:
        if given or asked["batches"]:
            raise UsageError("a sweep's file says all: give no MODEL and no --device, --context or the like beside it")
        return read_grid(Path(asked["sweep"]))
    return make_grid(
        needed("MODEL", asked["models"]), needed("--device", asked["names"]),
        read_contexts(tuple(needed("--context", asked["contexts"]))), batches=asked["batches"] or (1,),
        dtypes=asked["dtypes"] or (None,), cache_dtypes=asked["cache_dtypes"] or (None,),
        parallel=asked["parallel"] or (1,), utilizations=asked["utilizations"] or ("1",), source=asked["source"],
    )  # fmt: skip


def gather(grid: "Grid", scheduler: str | None, say: Say) -> "tuple[list[Row], KvsimError | None]":
    """The rows, and what ended them too early."""
    from kvsim.costs.plans.sweep import run_sweep

    rows: list[Row] = []
    try:
        with Bar(say("points")) as bar:
            for chunk in run_sweep(grid, scheduler):
                rows += chunk
                bar(len(rows), grid.points)
    except KvsimError as error:
        return rows, error
    return rows, None


def run_grid(
    asked: dict[str, Any], csv: str | None, scheduler: str | None, as_json: bool, ascii_only: bool, say: Say
) -> int:
    """A sweep on stdout, or in a file. Where it ends too early, the rows until then are kept and called that."""
    from kvsim.files import write_beside
    from kvsim.views.terminal.sweep import tell_sweep, to_csv, to_json

    grid = find_grid(asked)
    rows, error = gather(grid, scheduler, say)
    if error is not None and not rows:
        raise error
    if csv is not None:
        path = Path(csv if error is None else f"{csv}.partial")
        write_beside(path, to_csv(rows).encode())
        note(say("{path}: {n} rows").format(path=path, n=f"{len(rows):,}"))
    elif as_json:
        click.echo(to_json(rows))
    else:
        color = use_color(sys.stdout)
        click.echo(tell_sweep(rows, say, ascii_only, color), color=color)
    if error is None:
        return 0
    note(say("kvsim: error: {message}").format(message=explain(error, say)))
    note(say("partial: the first {n} of {all} rows are kept").format(n=f"{len(rows):,}", all=f"{grid.points:,}"))
    return error.exit_code


def command(say: Say) -> click.Command:
    @click.command(
        "plan",
        help=say(
            "Tell what of MODEL fits on a device: tokens and requests beside the weights, under each reading of its"
            " memory's figure, and what would save. MODEL: a public model's name, a folder with config.json, or such"
            " a file. With --sweep, over a grid."
        ),
        epilog=say("Examples:")
        + "\n\n\b\n  kvsim plan llama-2-7b-hf --device a10 --context 4096"
        + "\n  kvsim plan llama-3.1-8b --sweep --device a10 --device l4 --context 4096,32768 --csv plans.csv",
    )
    @click.argument("models", nargs=-1, metavar="MODEL", shell_complete=complete_name)
    @click.option("--device", "names", multiple=True, metavar="NAME", shell_complete=complete_device,
                  help=say("The device: a10, h100, ..."))  # fmt: skip
    @click.option("--context", "contexts", multiple=True, metavar="N[,N...]", help=say("Tokens of a request."))
    @click.option(
        "--dtype", "dtypes", multiple=True, metavar="DTYPE",
        shell_complete=known("float32", "float16", "bfloat16", "int8", "int4"),
        help=say("What the weights are in: a dtype, int8 or int4; by default float16, if the device has it."),
    )  # fmt: skip
    @click.option(
        "--cache-dtype", "cache_dtypes", multiple=True, metavar="DTYPE",
        shell_complete=known("float16", "bfloat16", "int8", "int4", "fp8"),
        help=say("What the cache is in: a dtype, int8, int4 or fp8 (int8:zero, int4:zero: with zero points); by"
                 " default that of the weights."),
    )  # fmt: skip
    @click.option("--utilization", "utilizations", multiple=True, metavar="SHARE",
                  help=say("The share of the memory that may be used, above 0 up to 1; 1 by default."))  # fmt: skip
    @click.option("--devices", "parallel", type=Number(int), multiple=True, metavar="N",
                  help=say("Devices that share the model, tensor parallel; 1 by default."))  # fmt: skip
    @click.option("--source", type=Number(int), help=say("Encoder positions; a model with an encoder needs them."))
    @click.option("--sweep", is_flag=False, flag_value=FROM_OPTIONS, metavar="[FILE.json]",
                  help=say("Plan for every combination: of the lists in a file, or of the options given several times"
                           " (then --sweep stands before another option)."))  # fmt: skip
    @click.option("--batch", "batches", type=Number(int), multiple=True, metavar="N",
                  help=say("Requests at once, in a sweep."))  # fmt: skip
    @click.option("--csv", metavar="FILE", help=say("Write the sweep to a file, whole or not at all."))
    @click.option("--scheduler", metavar="tcp://HOST:PORT", help=say("Run the sweep on that Dask cluster."))
    @click.option("-v", "--verbose", is_flag=True, help=say("Tell what the config.json leaves out."))
    @shown(say, "plan")
    @common(say)
    def plan(
        csv: str | None, scheduler: str | None, verbose: bool, as_json: bool, ascii_only: bool, **asked: Any
    ) -> int:  # fmt: skip
        for model in asked["models"] if verbose else ():
            note_assumed(say, model)
        if asked["sweep"] is not None:
            return run_grid(asked, csv, scheduler, as_json, ascii_only, say)
        for option, value in (("--csv", csv), ("--scheduler", scheduler), ("--batch", asked["batches"])):
            if value:
                raise UsageError("{option} goes with --sweep", option=option)
        return run_plan(asked, as_json, ascii_only, say)

    return plan
