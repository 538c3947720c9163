"""Outputs drawn for a terminal: tables, lines and drawings, the same bytes wherever they fit."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from rich.text import Text

from kvsim.i18n.language import Say
from kvsim.i18n.wrapping import wrap
from kvsim.views.terminal.fitting import fit, name_left_out, stack
from kvsim.views.terminal.screen import Screen
from kvsim.views.terminal.sheet import Drawing, Part, Sheet


class Box(NamedTuple):
    """The characters of a table's lines: of each horizontal line its left end, crossings and right end."""

    line: str
    wall: str
    top: str
    between: str
    bottom: str


SQUARE = Box("─", "│", "┌┬┐", "├┼┤", "└┴┘")
ASCII = Box("-", "|", "+++", "+++", "+++")
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


class _Grid:
    """A table whose cells are lines that fit their columns."""

    def __init__(self, sheet: Sheet, screen: Screen) -> None:
        self.sheet, self.color = sheet, screen.color is not None
        self.box = ASCII if screen.ascii_only else SQUARE
        self.headings = [column.heading for column in sheet.columns]
        self.totals = [column.total for column in sheet.columns]
        rows = [self.headings, *sheet.rows, *([self.totals] if sheet.totals else [])]
        self.widths = [
            max((cell_len(line) for row in rows if i < len(row) for line in row[i].split("\n")), default=0)
            for i in range(len(sheet.columns))
        ]

    def rule(self, ends: str) -> str:
        """A horizontal line."""
        return ends[0] + ends[1].join(self.box.line * (width + 2) for width in self.widths) + ends[2]

    def row(self, cells: Sequence[str], bold: bool = False, low: bool = False) -> list[str]:
        """The lines of one row, its cells at the top or, `low`, at the bottom; cells that it lacks are empty."""
        split = [cell.split("\n") for cell in [*cells, *[""] * (len(self.widths) - len(cells))]]
        height = max(map(len, split))
        lines = []
        for n in range(height):
            shown = []
            for part, width, column in zip(split, self.widths, self.sheet.columns, strict=True):
                place = n - (height - len(part)) if low else n
                text = part[place] if 0 <= place < len(part) else ""
                blank = " " * (width - cell_len(text))
                text = f"{_BOLD}{text}{_PLAIN}" if text and bold and self.color else text
                shown.append(blank + text if column.side == "right" else text + blank)
            wall = self.box.wall
            lines.append(f"{wall} {f' {wall} '.join(shown)} {wall}")
        return lines

    def draw(self) -> str:
        """The whole table."""
        sheet, between = self.sheet, self.rule(self.box.between)
        lines = [self.rule(self.box.top), *self.row(self.headings, bold=True, low=True), between]
        for i, row in enumerate(sheet.rows):
            lines += self.row(row)
            if i in sheet.sections and i < len(sheet.rows) - 1:
                lines.append(between)
        if sheet.totals:
            lines += [between, *self.row(self.totals, bold=True)]
        return "\n".join([*lines, self.rule(self.box.bottom)])


_SYSTEMS = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}


def _escape(style: Style, system: ColorSystem) -> str:
    """The escape sequence of a style's colors: those that the terminal has and that are nearest."""
    pairs = ((style.color, True), (style.bgcolor, False))
    codes = [code for color, ink in pairs if color for code in color.downgrade(system).get_ansi_codes(ink)]
    return f"\x1b[{';'.join(codes)}m"


def _color(line: Text, system: ColorSystem) -> str:
    """One line of a drawing; its styles do not overlap."""
    text, at, plain = "", 0, line.plain
    for start, end, style in sorted(line.spans, key=lambda span: span.start):
        if isinstance(style, Style):
            text += plain[at:start] + _escape(style, system) + plain[start:end] + _PLAIN
            at = end
    return text + plain[at:]


def render(content: Text, screen: Screen) -> str:
    """A drawing as text, in the colors of `screen`; blanks at the ends of lines are stripped."""
    if screen.color is None:
        return "\n".join(line.rstrip() for line in content.plain.split("\n"))
    system = _SYSTEMS[screen.color]
    return "\n".join(_color(line, system).rstrip() for line in content.split("\n", allow_blank=True))


def draw_sheet(sheet: Sheet, say: Say, screen: Screen) -> str:
    """The table as it fits on `screen`, with a note on columns that it leaves out; else its rows as lines."""
    fitted = fit(sheet, screen.width, screen.ascii_only)
    if fitted is None:
        return "\n".join(stack(sheet, say, screen.width))
    drawn = _Grid(fitted.sheet, screen).draw()
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
