"""--plot FILE of several commands: the option, its checks at the start of a command, and the file at its end."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvsim.cli.options import Decorated, complete_file, note
from kvsim.errors import UsageError, shortened
from kvsim.files.writing import check_writable, write_beside
from kvsim.i18n.language import Say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".png", ".pdf")
BARS = "\0bars"  # --plot without a file; no argument can hold a NUL


class PlotFile(click.ParamType):  # type: ignore[type-arg]
    """A file that ends in one of ENDINGS, or BARS."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == BARS or isinstance(value, Path):
            return value
        path = Path(value)
        if path.suffix.lower() not in ENDINGS:
            raise UsageError("--plot takes a file that ends in .svg, .png or .pdf, got {value}", value=shortened(value))
        return path


def plot_option(help: str, bars: bool = False) -> Callable[[Decorated], Decorated]:
    """--plot FILE; with `bars`, --plot alone is BARS."""
    optional: dict[str, Any] = {"is_flag": False, "flag_value": BARS} if bars else {}
    metavar = "[FILE]" if bars else "FILE"
    return click.option(
        "--plot", type=PlotFile(), metavar=metavar, shell_complete=complete_file, help=help, **optional
    )  # fmt: skip


def check_plot(path: Path) -> None:
    """Called before the work. BackendError: matplotlib is missing. FileError: the file cannot be written."""
    from kvsim.views.plot.chart import import_matplotlib

    import_matplotlib()
    check_writable(path)


def write_plot(path: Path, draw: "Callable[[Say], Figure]", say: Say) -> None:
    """Write the chart that `draw` makes, in the format of the file's ending, and print notes on it."""
    from kvsim.views.plot.chart import render

    rendered = render(draw, path.suffix.lower(), say)
    write_beside(path, rendered.data)
    for line in rendered.notes:
        note(line)
