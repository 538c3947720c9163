"""A table fitted to the width of a terminal: headings and texts wrapped, columns left out, or rows as lines."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from rich.cells import cell_len

from kvsim.i18n.language import Say
from kvsim.i18n.wrapping import units, wrap
from kvsim.views.terminal.columns import LEAST_FIRST
from kvsim.views.terminal.sheet import Bend, Column, Sheet
from kvsim.views.terminal.text import cut, tail

LEAST_TEXT = {"wrap": 20, "tail": 12, "cut": 12}  # cells that are left to a text
LEAST_HEADING = 6  # cells, where a heading has more: three Chinese characters
_WIDEST_PART = 30  # a longer path or link is cut rather than taken for a word


class Fitted(NamedTuple):
    """A table whose cells are lines that fit, and the columns that it leaves out."""

    sheet: Sheet
    left_out: list[Column]


def _cells(sheet: Sheet, place: int) -> list[str]:
    """The cells of a column, its total among them."""
    total = [sheet.columns[place].total] if sheet.totals else []
    return [row[place] for row in sheet.rows if place < len(row)] + total


def _widest_part(text: str) -> int:
    return min(max((cell_len(unit) for _, unit in units(text)), default=0), _WIDEST_PART)


def _spaced(heading: str) -> str:
    """The heading with a space where a name with underscores may break."""
    return heading.replace("_", "_ ")


def _lines(heading: str, width: int) -> str:
    """The heading in as few lines as `width` takes, and these about equally long."""
    if cell_len(heading) <= width:
        return heading
    spaced = _spaced(heading)
    lines = wrap(spaced, width)
    while width > 1 and len(narrower := wrap(spaced, width - 1)) == len(lines) and _whole(narrower, spaced):
        lines, width = narrower, width - 1
    return "\n".join(line.replace("_ ", "_") for line in lines)


def _whole(lines: list[str], text: str) -> bool:
    """Does no line end inside a word?"""
    return [part for line in lines for _, part in units(line)] == [part for _, part in units(text)]


def _limits(sheet: Sheet, place: int) -> tuple[int, int]:
    """The least and the natural width of a column."""
    column, cells = sheet.columns[place], _cells(sheet, place)
    widest = max(map(cell_len, cells), default=0)
    least = widest
    if column.bend != "whole":
        parts = map(_widest_part, cells) if column.bend == "wrap" else ()
        least = min(widest, max(LEAST_TEXT[column.bend], *parts, 0))
    heading = max(_widest_part(_spaced(column.heading)), min(LEAST_HEADING, cell_len(column.heading)))
    return max(least, heading), max(widest, cell_len(column.heading))


def _shrink(limits: list[tuple[int, int]], room: int) -> list[int] | None:
    """Widths that add up to at most `room`, the widest shrunk first; None: there are none."""
    if sum(least for least, _ in limits) > room:
        return None
    widths = [natural for _, natural in limits]
    while sum(widths) > room:
        place = max((i for i, (least, _) in enumerate(limits) if widths[i] > least), key=lambda i: widths[i])
        widths[place] -= 1
    return widths


def _bender(bend: Bend, width: int, ascii_only: bool) -> Callable[[str], str]:
    """What makes a cell fit into `width`."""
    if bend == "tail":
        return lambda cell: tail(cell, width, ascii_only)
    if bend == "cut":
        return lambda cell: cut(cell, width, ascii_only)
    return lambda cell: "\n".join(wrap(cell, width))


def _bent(sheet: Sheet, widths: list[int], ascii_only: bool) -> Sheet:
    """The table with its cells in lines of at most these widths."""
    benders = [_bender(column.bend, width, ascii_only) for column, width in zip(sheet.columns, widths, strict=True)]
    columns = [
        column._replace(heading=_lines(column.heading, width), total=bend(column.total))
        for column, width, bend in zip(sheet.columns, widths, benders, strict=True)
    ]
    rows = [[bend(cell) for bend, cell in zip(benders, row, strict=False)] for row in sheet.rows]
    sections = sheet.sections
    if any("\n" in cell for row in rows for cell in row):
        sections = frozenset(range(len(rows) - 1)) | sections
    return replace(sheet, columns=columns, rows=rows, sections=sections)


def _without(sheet: Sheet, place: int) -> Sheet:
    """The table without one column."""
    columns = [column for i, column in enumerate(sheet.columns) if i != place]
    return replace(sheet, columns=columns, rows=[row[:place] + row[place + 1 :] for row in sheet.rows])


def fit(sheet: Sheet, width: int | None, ascii_only: bool = False) -> Fitted | None:
    """The table in at most `width` cells, with as few columns left out as that takes; None: even the columns that are
    never left out do not fit side by side."""
    left_out: list[Column] = []
    if width is None:
        return Fitted(sheet, left_out)
    waiting = [key for key in LEAST_FIRST[sheet.name] if any(column.key == key for column in sheet.columns)]
    while True:
        room = width - 3 * len(sheet.columns) - 1  # beside lines and blanks
        widths = _shrink([_limits(sheet, place) for place in range(len(sheet.columns))], room)
        if widths is not None:
            return Fitted(_bent(sheet, widths, ascii_only), left_out)
        if not waiting:
            return None
        place = next(i for i, column in enumerate(sheet.columns) if column.key == waiting[0])
        left_out.append(sheet.columns[place])
        sheet, waiting = _without(sheet, place), waiting[1:]


def stack(sheet: Sheet, say: Say, width: int | None) -> list[str]:
    """Every row as lines of "heading: value", the first not indented."""
    lines = []
    totals = [[column.total for column in sheet.columns]] if sheet.totals else []
    for row in [*sheet.rows, *totals]:
        indent = ""
        for column, cell in zip(sheet.columns, row, strict=False):
            if cell:
                name = f"{column.heading}{say(': ')}" if column.heading else ""
                lines += wrap(f"{indent}{name}{cell}", width, len(indent) + 2)
                indent = "  "
    return lines


def name_left_out(fitted: Fitted, say: Say) -> str:
    """A note on the columns that are left out."""
    text = say("Left out at this width: {columns}. A wider terminal shows them.")
    if fitted.sheet.in_json:
        text = say("Left out at this width: {columns}. A wider terminal shows them; --json holds everything.")
    return text.format(columns=say(", ").join(column.heading for column in fitted.left_out))
