"""Tables on a terminal: made by rich, and rendered to the same bytes everywhere."""

import io
from collections.abc import Iterable
from typing import Literal

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

Column = tuple[str, str, Literal["left", "right"]]  # heading, footer, alignment


def render(content: RenderableType, color: bool) -> str:
    """`content` as text: the same bytes at any width of the terminal.

    The console is 10,000 cells wide, so that rich neither wraps nor cuts; blanks at the ends of lines are stripped.
    """
    out = io.StringIO()
    console = Console(
        file=out, width=10_000, force_terminal=color, color_system="standard" if color else None,
        legacy_windows=False, highlight=False, markup=False, emoji=False, _environ={},
    )  # fmt: skip
    console.print(content)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def make_table(columns: Iterable[Column], ascii_only: bool, footer: bool = True) -> Table:
    """An empty table of `columns` whose cells are never wrapped; `footer`: with a last row for totals."""
    table = Table(box=box.ASCII2 if ascii_only else box.SQUARE, show_footer=footer, safe_box=False)
    for heading, total, side in columns:
        table.add_column(heading, total, justify=side, header_style="bold", footer_style="bold", no_wrap=True)
    return table


def shown_steps(n_steps: int, rows: int | None) -> tuple[range, range]:
    """Indices of the steps shown in at most `rows` rows (None: no limit): the first ones, and the last ones."""
    if rows is None or n_steps <= rows:
        return range(n_steps), range(0)
    first = (rows + 1) // 2
    return range(first), range(n_steps - (rows - first), n_steps)
