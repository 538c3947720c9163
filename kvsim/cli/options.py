"""What several commands share: options, shell completion, the progress bar, notes on stderr, checks of values."""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kvsim.checks import parse_whole
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import LANGUAGES, Say
from kvsim.i18n.printable import printable

Decorated = Callable[..., Any]


def known(*values: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Shell completion from a list. The library itself checks the value, and its error lists what is expected."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models with weights: names of bundled ones, folders and files."""
    from kvsim.loading.places import BUNDLED

    names = [CompletionItem(name) for name in BUNDLED if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def complete_config(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models whose config is enough: names of public and bundled ones, folders and files."""
    from kvsim.costs.public.models import read_catalogue

    names = [CompletionItem(name) for name in read_catalogue() if name.startswith(incomplete)]
    return [*names, *complete_model(ctx, param, incomplete)]


def complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the catalogue's devices."""
    from kvsim.costs.public.devices import read_devices

    return [CompletionItem(name) for name in read_devices() if name.startswith(incomplete)]


def combine(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """One decorator that applies several, the first outermost, as if they were written above one another."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files."""
    return [CompletionItem(incomplete, type="file")]


def complete_cache(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """An example of every cache policy."""
    from kvsim.caches.specs import list_examples

    return [CompletionItem(spec) for spec in list_examples() if spec.startswith(incomplete)]


complete_dtype = known("float32", "float64", "float16", "bfloat16")


def running(say: Say) -> Callable[[Decorated], Decorated]:
    """--model, --backend, --device and --dtype: the arguments of `kvsim.load`."""
    return combine(
        click.option(
            "--model",
            default="demo",
            show_default=True,
            metavar="demo|DIR|FILE.gguf",
            shell_complete=complete_model,
            help=say("The model: a bundled one, a folder in Hugging Face's format, or a GGUF file."),
        ),
        loading(say),
    )


def loading(say: Say) -> Callable[[Decorated], Decorated]:
    """--backend, --device and --dtype."""
    return combine(
        click.option(
            "--backend",
            metavar="numpy|cupy|torch|exact",
            shell_complete=known("numpy", "cupy", "torch", "exact"),
            help=say("The array library; default: KVSIM_BACKEND, else numpy."),
        ),
        click.option("--device", help=say("The backend's device; by default the backend chooses.")),
        click.option(
            "--dtype",
            default="float32",
            show_default=True,
            shell_complete=complete_dtype,
            help=say("The data type of all computation."),
        ),
    )


def generating(say: Say, new: int, feed: str) -> Callable[[Decorated], Decorated]:
    """-n and --feed, with these defaults."""
    return combine(
        click.option(
            "-n",
            "--max-new-tokens",
            type=Number(int),
            default=new,
            show_default=True,
            help=say("New tokens to generate."),
        ),
        click.option(
            "--feed",
            default=feed,
            show_default=True,
            metavar="token|prefill|chunk:K",
            shell_complete=known("token", "prefill", "chunk:"),
            help=say("How the prompt is fed: token by token, at once, or K tokens per step."),
        ),
    )


def shown(say: Say, schema: str) -> Callable[[Decorated], Decorated]:
    """--json, in the schema of that name, and --ascii."""
    drawn = say("Draw with ASCII characters; the text itself is unchanged.")

    def decorate(function: Decorated) -> Decorated:
        function = click.option("--ascii", "ascii_only", is_flag=True, help=drawn)(function)
        return json_option(say, schema)(function)

    return decorate


def json_option(say: Say, schema: str) -> Callable[[Decorated], Decorated]:
    """--json, in the schema of that name."""
    text = say("Print one JSON object (its schema: kvsim schema {name}).").format(name=schema)
    return click.option("--json", "as_json", is_flag=True, help=text)


# "stdout": its encoding before `kvsim.cli.main` changed it to UTF-8.
ORIGINAL_ENCODINGS: dict[str, str] = {}


class OutputFile(click.ParamType):  # type: ignore[type-arg]
    """A file to write. An option in its place is an option whose file was forgotten: ./--x writes a file --x."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and (not value or value.startswith("-")):
            raise UsageError("{option} takes a file, got {value}", option=param.opts[-1] if param else "",
                             value=shortened(value))  # fmt: skip
        return Path(value)


class Number(click.ParamType):  # type: ignore[type-arg]
    """An integer (see `parse_whole`), or a float; ASCII digits only, with kvsim's own translated errors."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        option = param.opts[-1] if param else ""
        if not isinstance(value, str):
            return value  # a default
        if self.kind is int:
            if not re.fullmatch(r"[+-]?[0-9]+", value):
                raise UsageError("{option} takes a whole number, got {value}", option=option, value=shortened(value))
            return parse_whole(option, value)
        try:
            return float(value if value.isascii() and "_" not in value else "?")
        except ValueError as error:
            raise UsageError("{option} takes a number, got {value}", option=option, value=shortened(value)) from error


def common(say: Say) -> Callable[[Decorated], Decorated]:
    """--lang and --debug; `kvsim.cli.run` reads them from the arguments before click does."""

    def decorate(function: Decorated) -> Decorated:
        function = click.option("--debug", is_flag=True, expose_value=False, help=say("Show a traceback on errors."))(
            function
        )
        return click.option(
            "--lang",
            expose_value=False,
            metavar="zh|en|auto",
            shell_complete=known(*LANGUAGES, "auto"),
            help=say("The language; default: KVSIM_LANG, else the locale's."),
        )(function)

    return decorate


PATIENCE = 1.0  # seconds before a progress bar is shown


class Bar:
    """A progress bar on stderr, shown once the work has taken a second, and only if stderr is a terminal.

    Call it with the number of finished steps and of all steps. `check` is called with the latter after the first step,
    and may raise.
    """

    def __init__(self, label: str, check: Callable[[int], None] = lambda total: None) -> None:
        self.check = check
        self.label, self.started, self._progress = label, time.monotonic(), None  # type: tuple[str, float, Any]

    def __call__(self, done: int, total: int) -> None:
        if done == 1:
            self.check(total)
        if self._progress is None:
            if time.monotonic() - self.started < PATIENCE or not (sys.stderr and sys.stderr.isatty()):
                return
            from rich.console import Console
            from rich.progress import Progress

            # redirect_stdout=True would write results to stderr, even where stdout is a file.
            self._progress = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)
            self._progress.start()
            self._task = self._progress.add_task(self.label, total=total)
        self._progress.update(self._task, completed=done)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """In this context the bar is taken from the terminal, so that a line of results may be written there."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def note_assumed(say: Say, model: str) -> None:
    """Note the fields that the model's config.json leaves out, and the default of each (-v)."""
    from kvsim.costs.public.models import find_assumed

    fields = ", ".join(f"{field} = {shortened(value)}" for field, value in find_assumed(model).items())
    text = say("note: defaults of fields that the config.json of {model} leaves out: {fields}")
    note(text.format(model=model, fields=fields or "-"))


def note(text: str) -> None:
    """Write a line to stderr. If stderr cannot be written to, the note is lost and the command goes on."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """`value`. UsageError: it is none of `choices`."""
    if value not in choices:
        raise UsageError(
            "unknown value {value} of {option}: use one of {known}",
            value=shortened(value),
            option=option,
            known=", ".join(choices),
        )
    return value


def check_text(text: str) -> None:
    """UsageError: `text` holds bytes that are not UTF-8, which Python passes on as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the text is not valid UTF-8") from error


def note_unknown(pieces: Sequence[str], say: Say) -> None:
    """Note the parts of a text that are not in the vocabulary."""
    if pieces:
        text = say("note: not in the model's vocabulary, fed as the unknown token: {characters}")
        note(text.format(characters=" ".join(map(printable, pieces))))
