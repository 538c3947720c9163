"""`kvsim bench`: milliseconds per token on this machine, with and without a cache."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from kvsim.checks import check_whole
from kvsim.cli.options import Bar, Decorated, Number, combine, common, json_option, known, loading
from kvsim.cli.page import check_page, page_options, show_page
from kvsim.cli.plotting import check_plot, plot_option, write_plot
from kvsim.cli.screen import find_screen, show
from kvsim.i18n.language import Say

if TYPE_CHECKING:
    from kvsim.model import Model

EXAMPLES = (
    "\n\n\b\n  kvsim bench\n  kvsim bench --model gpt2 -n 512 --peer transformers --plot gpt2.svg"
    "\n  kvsim bench --html bench.html --open"
)
DEFAULT_NEW = 1000  # or as many as fit in the context


@dataclass(frozen=True)
class Options:
    """The options of the command, as click reads them."""

    model: str
    new: int | None
    prompt: int
    points: int
    repeats: int
    no_uncached: bool
    peer: str | None
    backend: str | None
    device: str | None
    dtype: str
    plot: Path | None
    html: Path | None
    open_page: bool
    as_json: bool

    def check(self) -> None:
        """UsageError, BackendError, FileError: what can be refused before a model is read."""
        from kvsim.benchmark.peers import check_name

        check_whole("--points", self.points, 1)
        check_whole("--repeats", self.repeats, 1)
        if self.peer is not None:
            check_name(self.peer)
        if self.plot is not None:
            check_plot(self.plot)
        check_page(self.html, self.open_page)


def open_models(options: Options) -> tuple["Model", Any, int]:
    """The model, the peer or None, and the number of new tokens. UsageError, KvsimError: see `benchmark`."""
    from kvsim.benchmark import decoding, peers, subjects

    shape = subjects.find_shape(options.model)
    fitting = max(shape.max_context - options.prompt, 1)
    new = min(DEFAULT_NEW, fitting) if options.new is None else options.new
    decoding.check_sizes(options.model, shape.max_context, options.prompt, new)
    with TemporaryDirectory() as folder:
        shared = Path(folder) if options.peer == "transformers" else None
        copies = 1 if options.peer is None else 2
        model = subjects.open_subject(
            options.model, options.backend, options.device, options.dtype, shared, copies, shape
        )
        peer = None if options.peer is None else peers.open_peer(options.peer, model)
    return model, peer, new


def run_bench(options: Options, say: Say) -> int:
    """Measure and print; Ctrl-C ends the run and keeps what is measured. The exit code."""
    from kvsim.benchmark import decoding
    from kvsim.benchmark.limits import peak_memory
    from kvsim.views.json.bench import to_json
    from kvsim.views.terminal.bench import format_heading, format_point, format_sums

    options.check()
    screen = find_screen()
    model, peer, new = open_models(options)
    bench = decoding.start(model, options.peer, options.prompt, new, options.repeats)
    contexts = decoding.choose_contexts(options.prompt, new, options.points)
    if not options.as_json:
        show(format_heading(bench, say, screen), screen)
    try:
        with Bar(say("contexts")) as bar:
            for point in decoding.time_steps(model, contexts, options.repeats, not options.no_uncached, peer):
                bench.points.append(point)
                bar(len(bench.points), len(contexts))
                if not options.as_json:
                    with bar.hidden():
                        show(format_point(point, bench, screen), screen)
    except KeyboardInterrupt:
        bench.partial = True
    bench.peak_memory = peak_memory()
    if options.as_json:
        click.echo(to_json(bench))
    elif bench.points:
        show(format_sums(bench, say, screen), screen)
    if options.plot is not None and bench.points:
        from kvsim.views.plot.bench import draw_bench

        write_plot(options.plot, partial(draw_bench, bench), say)
    if bench.points:
        show_page(bench, options.html, options.open_page, say)
    return 130 if bench.partial else 0


def _sizes(say: Say) -> Callable[[Decorated], Decorated]:
    """The options that define what is timed."""
    return combine(
        click.option(
            "--model",
            default="demo",
            show_default=True,
            metavar="NAME|DIR|FILE.gguf",
            help=say("The model; a public model's name (gpt2) stands for random weights of its shape."),
        ),
        click.option(
            "-n", "--max-new-tokens", "new", type=Number(int),
            help=say("New tokens; by default as many as fit in the context, at most 1000."),
        ),
        click.option("--prompt", type=Number(int), default=16, show_default=True, help=say("Tokens of the prompt.")),
        click.option(
            "--points", type=Number(int), default=6, show_default=True,
            help=say("How many contexts are timed; with the value of -n, every step."),
        ),
        click.option(
            "--repeats", type=Number(int), default=5, show_default=True, help=say("Steps timed at each context.")
        ),
        click.option("--no-uncached", is_flag=True, help=say("Do not time the run without a cache.")),
        click.option(
            "--peer",
            metavar="transformers|torch",
            shell_complete=known("transformers", "torch"),
            help=say("Time this implementation too, with the same weights, after its logits have been compared."),
        ),
    )  # fmt: skip


def command(say: Say) -> click.Command:
    @click.command(
        "bench",
        help=say("Time single steps at growing context, with and without a cache, and compare them with the measured"
                 " limits of this machine."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @_sizes(say)
    @loading(say)
    @json_option(say, "bench")
    @plot_option(say("Plot ms per token over context, to this file: .svg, .png or .pdf."))
    @page_options(say)
    @common(say)
    def bench(**given: Any) -> int:
        return run_bench(Options(**given), say)

    return bench
