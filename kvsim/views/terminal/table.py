"""Outputs drawn for a terminal: tables by rich, the same bytes wherever they fit; lines wrapped."""

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from kvsim.i18n.language import Say
from kvsim.i18n.wrapping import wrap
from kvsim.views.terminal.fitting import fit, name_left_out, stack
from kvsim.views.terminal.screen import Screen
from kvsim.views.terminal.sheet import Drawing, Part, Sheet


def render(content: RenderableType, screen: Screen) -> str:
    """`content` as text. The console is 10,000 cells wide, so that rich neither wraps nor cuts; blanks at the ends of
    lines are stripped."""
    out = io.StringIO()
    console = Console(
        file=out, width=10_000, force_terminal=screen.color is not None, color_system=screen.color,
        legacy_windows=False, highlight=False, markup=False, emoji=False, _environ={},
    )  # fmt: skip
    console.print(content)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _draw(sheet: Sheet, screen: Screen) -> str:
    """The table with lines around its cells, which are not changed."""
    style = box.ASCII2 if screen.ascii_only else box.SQUARE
    table = Table(box=style, show_footer=sheet.totals, safe_box=False)
    for column in sheet.columns:
        table.add_column(
            Text(column.heading), Text(column.total), justify=column.side, header_style="bold", footer_style="bold",
            no_wrap=True,
        )  # fmt: skip
    for i, row in enumerate(sheet.rows):
        table.add_row(*map(Text, row), end_section=i in sheet.sections)
    return render(table, screen)


def draw_sheet(sheet: Sheet, say: Say, screen: Screen) -> str:
    """The table as it fits on `screen`, with a note on columns that it leaves out; else its rows as lines."""
    fitted = fit(sheet, screen.width, screen.ascii_only)
    if fitted is None:
        return "\n".join(stack(sheet, say, screen.width))
    drawn = _draw(fitted.sheet, screen)
    lines = [drawn] if sheet.gap in drawn else [drawn, *wrap(sheet.gap, screen.width)]
    if fitted.left_out:
        lines += wrap(name_left_out(fitted, say), screen.width)
    return "\n".join(lines)


def lay_out(parts: Iterable[Part], say: Say, screen: Screen) -> str:
    """The whole output: lines wrapped, tables and drawings as they fit."""
    shown = []
    for part in parts:
        if isinstance(part, str):
            shown += wrap(part, screen.width)
        elif isinstance(part, Drawing):
            shown.append(render(part.draw(screen.width), screen))
        else:
            shown.append(draw_sheet(part, say, screen))
    return "\n".join(shown)


def shown_steps(n_steps: int, rows: int | None) -> tuple[range, range]:
    """Indices of the steps shown in at most `rows` rows (None: no limit): the first ones, and the last ones."""
    if rows is None or n_steps <= rows:
        return range(n_steps), range(0)
    first = (rows + 1) // 2
    return range(first), range(n_steps - (rows - first), n_steps)
