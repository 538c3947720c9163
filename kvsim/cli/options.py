"""What the options of several commands share."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import LANGUAGES, Say
from kvsim.i18n.printable import printable

Decorated = Callable[..., Any]


def known(*values: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Shell completion from a list. The library itself checks the value and says what it expected."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The bundled models' names, folders and files."""
    from kvsim.loading.places import BUNDLED

    names = [CompletionItem(name) for name in BUNDLED if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def complete_config(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The same and every public model's name: what needs no weights."""
    from kvsim.costs.public.models import read_catalogue

    names = [CompletionItem(name) for name in read_catalogue() if name.startswith(incomplete)]
    return [*names, *complete_model(ctx, param, incomplete)]


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files."""
    return [CompletionItem(incomplete, type="file")]


def complete_cache(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """An example of every policy."""
    from kvsim.caches.specs import list_examples

    return [CompletionItem(spec) for spec in list_examples() if spec.startswith(incomplete)]


complete_dtype = known("float32", "float64", "float16", "bfloat16")


def running(say: Say) -> Callable[[Decorated], Decorated]:
    """--model, --backend, --device and --dtype: what a model that runs is loaded with."""
    options = (
        click.option(
            "--model",
            default="demo",
            show_default=True,
            metavar="demo|DIR|FILE.gguf",
            shell_complete=complete_model,
            help=say("The model: a bundled one, a folder in Hugging Face's format, or a GGUF file."),
        ),
        click.option(
            "--backend",
            metavar="numpy|cupy|torch|exact",
            shell_complete=known("numpy", "cupy", "torch", "exact"),
            help=say("The array library that computes; else KVSIM_BACKEND, or numpy."),
        ),
        click.option("--device", help=say("The backend's device; its own choice by default.")),
        click.option(
            "--dtype",
            default="float32",
            show_default=True,
            shell_complete=complete_dtype,
            help=say("What everything is computed in."),
        ),
    )

    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def shown(say: Say, schema: str) -> Callable[[Decorated], Decorated]:
    """--json, in the schema of that name, and --ascii: how a table is shown."""
    drawn = say("Draw with ASCII characters; the text itself stays as it is.")

    def decorate(function: Decorated) -> Decorated:
        function = click.option("--ascii", "ascii_only", is_flag=True, help=drawn)(function)
        return json_option(say, schema)(function)

    return decorate


def json_option(say: Say, schema: str) -> Callable[[Decorated], Decorated]:
    """--json by itself: for what is shown as text."""
    told = say("Print one JSON object (its schema: kvsim schema {name}).").format(name=schema)
    return click.option("--json", "as_json", is_flag=True, help=told)


# What `kvsim.cli.main` found before it made the streams UTF-8.
ENVIRONMENT: dict[str, str] = {}


class Number(click.ParamType):  # type: ignore[type-arg]
    """A whole or a real number, refused in our own words."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        option = param.opts[-1] if param else ""
        if not isinstance(value, str):
            return value  # the default
        if self.kind is int:
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
                raise UsageError("{option} takes a whole number, got {value}", option=option, value=shortened(value))
            return int(value)
        try:
            return float(value if value.isascii() and "_" not in value else "?")
        except ValueError as error:
            raise UsageError("{option} takes a number, got {value}", option=option, value=shortened(value)) from error


def common(say: Say) -> Callable[[Decorated], Decorated]:
    """--lang and --debug, which `kvsim.cli.run` reads for itself."""

    def decorate(function: Decorated) -> Decorated:
        function = click.option("--debug", is_flag=True, expose_value=False, help=say("Show a traceback on errors."))(
            function
        )
        return click.option(
            "--lang",
            expose_value=False,
            metavar="zh|en|auto",
            shell_complete=known(*LANGUAGES, "auto"),
            help=say("Language; else KVSIM_LANG, then the locale's."),
        )(function)

    return decorate


def use_color(stream: Any) -> bool:
    """NO_COLOR, then FORCE_COLOR, then whether it is a terminal (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream is not None and stream.isatty())


class Bar:
    """A progress bar on stderr, if that is a terminal, for work that has taken a second."""

    def __init__(self, label: str, check: Callable[[int], None] = lambda total: None) -> None:
        self.check = check  # is told the number of steps when the first is done
        self.label, self.started, self._progress = label, time.monotonic(), None  # type: tuple[str, float, Any]

    def __call__(self, done: int, total: int) -> None:
        if done == 1:
            self.check(total)
        if self._progress is None:
            if time.monotonic() - self.started < 1.0 or not (sys.stderr and sys.stderr.isatty()):
                return
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task = self._progress.add_task(self.label, total=total)
        self._progress.update(self._task, completed=done)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def note_assumed(say: Say, model: str) -> None:
    """On stderr: the fields that the model's config.json leaves out, and what stands in for each (-v)."""
    from kvsim.costs.public.models import find_assumed

    told = ", ".join(f"{field} = {shortened(value)}" for field, value in find_assumed(model).items())
    note(say("note: left out of the config.json of {model}, and taken: {fields}").format(
        model=model, fields=told or "-"
    ))  # fmt: skip


def note(text: str) -> None:
    """A line on stderr. A stderr that cannot be written to costs the note, never the result."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """`value`, which must be one of `choices`."""
    if value not in choices:
        raise UsageError(
            "unknown value {value} of {option}: use one of {known}",
            value=shortened(value),
            option=option,
            known=", ".join(choices),
        )
    return value


def check_text(text: str) -> None:
    """Refuse bytes that the shell passed on although they are no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the text is not valid UTF-8") from error


def note_unknown(pieces: Sequence[str], say: Say) -> None:
    """Tell which parts of a text the model has never seen."""
    if pieces:
        unseen = say("note: the model has never seen {characters}: fed as its unknown token")
        note(unseen.format(characters=" ".join(map(printable, pieces))))
