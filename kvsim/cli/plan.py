"""`kvsim plan MODEL --device NAME`: what fits on a device; with `--sweep` over a grid."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvsim.cli.memory import cache_dtype_help, note_context, read_contexts
from kvsim.cli.options import (
    Bar,
    Decorated,
    Number,
    combine,
    common,
    complete_config,
    complete_device,
    complete_file,
    known,
    note,
    note_assumed,
    shown,
)
from kvsim.cli.screen import find_screen, show
from kvsim.errors import KvsimError, UsageError
from kvsim.i18n.language import Say, explain
from kvsim.i18n.printable import printable

if TYPE_CHECKING:
    from kvsim.costs.plans.grid import Grid
    from kvsim.costs.plans.sweep import Row

FROM_OPTIONS = "-"  # the value of --sweep without a file


@dataclass(frozen=True)
class Options:
    """The options of the command, as click reads them; those that a sweep combines are lists."""

    models: tuple[str, ...]
    names: tuple[str, ...]  # of devices
    contexts: tuple[str, ...]
    batches: tuple[int, ...]
    dtypes: tuple[str, ...]
    cache_dtypes: tuple[str, ...]
    utilizations: tuple[str, ...]
    parallel: tuple[int, ...]
    source: int | None
    sweep: str | None
    csv: str | None
    scheduler: str | None
    as_json: bool
    ascii_only: bool
    verbose: bool

    @property
    def axes(self) -> tuple[object, ...]:
        """What a file of --sweep defines instead."""
        return (
            self.models, self.names, self.contexts, self.batches, self.dtypes, self.cache_dtypes, self.utilizations,
            self.parallel, self.source,
        )  # fmt: skip


def single(option: str, values: Sequence[Any], default: Any) -> Any:
    """The only one of `values`, or `default` if there is none. UsageError: several."""
    if len(values) > 1:
        raise UsageError("{option} was given {n} times: several values need --sweep", option=option, n=len(values))
    return values[0] if values else default


def required(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """`values` itself. UsageError: it is empty."""
    if not values:
        raise UsageError("{name} is missing: kvsim plan MODEL --device NAME --context N", name=name)
    return values


def run_plan(options: Options, say: Say) -> int:
    """Print one plan. UsageError, FileError: as `plan`."""
    from kvsim.costs.plans.planning import plan
    from kvsim.costs.plans.remedies import find_remedies

    model = single("MODEL", required("MODEL", options.models), None)
    contexts = read_contexts(tuple(required("--context", options.contexts)))
    device = single("--device", required("--device", options.names), None)
    found = plan(
        model, device, single("--context", contexts, None), dtype=single("--dtype", options.dtypes, None),
        cache_dtype=single("--cache-dtype", options.cache_dtypes, None), source=options.source,
        utilization=single("--utilization", options.utilizations, "1"),
        devices=single("--devices", options.parallel, 1),
    )  # fmt: skip
    note_context(found.context, found.setup.config.max_context, say)
    remedies = find_remedies(found)
    if options.as_json:
        from kvsim.schemas import dump
        from kvsim.views.json.plan import to_dict

        click.echo(dump(to_dict(found, remedies)))
    else:
        from kvsim.views.terminal.plan import format_plan

        screen = find_screen(options.ascii_only)
        show(format_plan(found, remedies, say, screen), screen)
    return 0


def find_grid(options: Options) -> "Grid":
    """The grid of the file, or of the options. UsageError: both, or as `make_grid`. FileError: as `read_grid`."""
    from kvsim.costs.plans.grid import Axes, make_grid, read_grid

    if options.sweep is not None and options.sweep != FROM_OPTIONS:
        if any(options.axes):
            raise UsageError(
                "the file of --sweep defines the whole sweep: give no MODEL and no --device, --context or the like"
            )
        return read_grid(Path(options.sweep))
    models, devices = required("MODEL", options.models), required("--device", options.names)
    contexts = read_contexts(tuple(required("--context", options.contexts)))
    return make_grid(
        Axes(
            models, devices, contexts, batches=options.batches or (1,), dtypes=options.dtypes or (None,),
            cache_dtypes=options.cache_dtypes or (None,), parallel=options.parallel or (1,),
            utilizations=options.utilizations or ("1",), source=options.source,
        )
    )  # fmt: skip


def gather(grid: "Grid", scheduler: str | None, say: Say) -> "tuple[list[Row], KvsimError | None]":
    """The rows, and the error that ended the sweep early."""
    from kvsim.costs.plans.sweep import run_sweep

    rows: list[Row] = []
    try:
        with Bar(say("points")) as bar, closing(run_sweep(grid, scheduler)) as chunks:
            for chunk in chunks:
                rows += chunk
                bar(len(rows), grid.points)
    except KvsimError as error:
        return rows, error
    return rows, None


def run_grid(options: Options, say: Say) -> int:
    """Print a sweep, or write it to a file. If it ends early, keep the rows so far and report that they are partial."""
    from kvsim.files.writing import check_writable, is_special

    grid = find_grid(options)
    if options.csv is not None:
        check_writable(Path(options.csv))
        if not is_special(Path(options.csv)):
            check_writable(_partial(options.csv))
    rows, error = gather(grid, options.scheduler, say)
    if error is not None and not rows:
        raise error
    _write_rows(options, rows, error is not None, say)
    if error is None:
        return 0
    note(say("kvsim: error: {message}").format(message=explain(error, say)))
    note(say("partial: the first {n} of {all} rows are kept").format(n=f"{len(rows):,}", all=f"{grid.points:,}"))
    return error.exit_code


def _partial(csv: str) -> Path:
    """Where the rows are kept of a sweep that ends early."""
    return Path(f"{csv}.partial")


def _write_rows(options: Options, rows: "list[Row]", partial: bool, say: Say) -> None:
    """Write the rows as CSV to the file of --csv, or as JSON or a table to stdout."""
    from kvsim.files.writing import is_special, write_beside
    from kvsim.views.terminal.sweep import format_sweep, to_csv

    if options.csv is not None:
        path = Path(options.csv)
        if partial and not is_special(path):
            path = _partial(options.csv)
        write_beside(path, to_csv(rows).encode())
        note(say("{path}: {n} rows").format(path=printable(str(path)), n=f"{len(rows):,}"))
    elif options.as_json:
        from kvsim.schemas import dump
        from kvsim.views.json.plan import sweep_to_dict

        click.echo(dump(sweep_to_dict(rows)))
    else:
        screen = find_screen(options.ascii_only)
        show(format_sweep(rows, say, screen), screen)


def _model_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options that define what is placed where; a sweep takes several values of each."""
    return combine(
        click.option("--device", "names", multiple=True, metavar="NAME", shell_complete=complete_device,
                     help=say("The device: a10, h100, ...")),
        click.option("--context", "contexts", multiple=True, metavar="N[,N...]", help=say("Tokens of a request.")),
        click.option(
            "--dtype", "dtypes", multiple=True, metavar="DTYPE",
            shell_complete=known("float32", "float16", "bfloat16", "int8", "int4"),
            help=say("The format of the weights: a dtype, int8 or int4; by default float16, if the device has it."),
        ),
        click.option(
            "--cache-dtype", "cache_dtypes", multiple=True, metavar="DTYPE",
            shell_complete=known("float16", "bfloat16", "int8", "int4", "fp8"), help=cache_dtype_help(say),
        ),
        click.option("--utilization", "utilizations", multiple=True, metavar="SHARE",
                     help=say("The share of the memory that may be used, above 0 up to 1; 1 by default.")),
        click.option("--devices", "parallel", type=Number(int), multiple=True, metavar="N",
                     help=say("Devices that share the model, tensor parallel; 1 by default.")),
        click.option("--source", type=Number(int), help=say("Encoder positions; a model with an encoder needs them.")),
    )  # fmt: skip


def _sweep_options(say: Say) -> Callable[[Decorated], Decorated]:
    """The options of a sweep."""
    return combine(
        click.option("--sweep", is_flag=False, flag_value=FROM_OPTIONS, metavar="[FILE.json]",
                     help=say("Plan for every combination: of the lists in a file, or of the options given several"
                              " times (then --sweep stands before another option).")),
        click.option("--batch", "batches", type=Number(int), multiple=True, metavar="N",
                     help=say("Concurrent requests, in a sweep.")),
        click.option("--csv", metavar="FILE", shell_complete=complete_file,
                     help=say("Write the whole sweep to a file; nothing if that fails.")),
        click.option("--scheduler", metavar="tcp://HOST:PORT", help=say("Run the sweep on that Dask cluster.")),
    )  # fmt: skip


def command(say: Say) -> click.Command:
    @click.command(
        "plan",
        help=say(
            "Show what of MODEL fits on a device: tokens and requests beside the weights, for each reading of its"
            " memory size, and changes that would save bytes. MODEL: a public model's name, a folder with config.json,"
            " or such a file. With --sweep, for every point of a grid."
        ),
        epilog=say("Examples:")
        + "\n\n\b\n  kvsim plan llama-2-7b-hf --device a10 --context 4096"
        + "\n  kvsim plan llama-3.1-8b --sweep --device a10 --device l4 --context 4096,32768 --csv plans.csv",
    )
    @click.argument("models", nargs=-1, metavar="MODEL", shell_complete=complete_config)
    @_model_options(say)
    @_sweep_options(say)
    @click.option("-v", "--verbose", is_flag=True, help=say("List the fields that the config.json leaves out."))
    @shown(say, "plan")
    @common(say)
    def plan(**given: Any) -> int:
        options = Options(**given)
        for model in options.models if options.verbose else ():
            note_assumed(say, model)
        if options.sweep is not None:
            return run_grid(options, say)
        for option, value in (
            ("--csv", options.csv), ("--scheduler", options.scheduler), ("--batch", options.batches),
        ):  # fmt: skip
            if value:
                raise UsageError("{option} goes with --sweep", option=option)
        return run_plan(options, say)

    return plan
