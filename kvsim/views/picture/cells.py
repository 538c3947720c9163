"""Cells as SVG: each state has a color, a hatch and a letter, so that none of them is needed to tell it."""

from collections.abc import Iterable
from typing import NamedTuple

from kvsim.comparisons.cells import ABSENT, CACHED, COMPUTED, MASKED, NEW_KEY, NEW_VALUE
from kvsim.views.picture.elements import mark_text, measure, write

COLORS = {COMPUTED: "#FFFFFF", MASKED: "#C8609A", CACHED: "#E0E0E0", NEW_KEY: "#E69F00", NEW_VALUE: "#00A878"}


class Cell(NamedTuple):
    """A square with its upper left corner at (x, y)."""

    x: float
    y: float
    state: str


def place_row(x: float, y: float, states: str, side: float) -> list[Cell]:
    """A row of cells from left to right."""
    return [Cell(x + side * i, y, state) for i, state in enumerate(states)]


def _hatch(cell: Cell, side: float) -> str:
    """Path data of the lines in a cell: \\\\ in V, // in K, both where masked, level lines where cached."""
    x, y, state = cell
    half = side / 2
    rising = f"M{x:g} {y + half:g}l{half:g} {-half:g}M{x:g} {y + side:g}l{side:g} {-side:g}"
    rising += f"M{x + half:g} {y + side:g}l{half:g} {-half:g}"
    falling = f"M{x + half:g} {y:g}l{half:g} {half:g}M{x:g} {y:g}l{side:g} {side:g}"
    falling += f"M{x:g} {y + half:g}l{half:g} {half:g}"
    level = "".join(f"M{x:g} {y + side * share:g}h{side:g}" for share in (0.2, 0.8))
    return {NEW_KEY: rising, NEW_VALUE: falling, MASKED: rising + falling, CACHED: level}.get(state, "")


def _squares(cells: Iterable[Cell], side: float) -> str:
    """Path data of their outlines."""
    return "".join(f"M{cell.x:g} {cell.y:g}h{side:g}v{side:g}h{-side:g}z" for cell in cells)


def draw_cells(cells: Iterable[Cell], side: float, font: float) -> list[str]:
    """The elements of cells: by state one filled path, one hatch, and a letter for each; absent ones are outlines."""
    by_state: dict[str, list[Cell]] = {}
    for cell in cells:
        by_state.setdefault(cell.state, []).append(cell)
    elements = []
    if absent := by_state.pop(ABSENT, None):
        dashes = 'fill="none" stroke="#bbb" stroke-dasharray="2 3"'
        elements.append(f'<path d="{_squares(absent, side)}" {dashes}/>')
    for state, same in by_state.items():
        squares, hatch = _squares(same, side), "".join(_hatch(cell, side) for cell in same)
        elements.append(f'<path d="{squares}" fill="{COLORS[state]}" stroke="#333"/>')
        if hatch:
            elements.append(f'<path d="{hatch}" stroke="#000" stroke-opacity="0.22" fill="none"/>')
        middle, base = side / 2, side / 2 + 0.36 * font
        elements.append(f'<g text-anchor="middle" font-size="{font:g}">')
        elements += [f'<text x="{c.x + middle:g}" y="{c.y + base:g}">{c.state}</text>' for c in same]
        elements.append("</g>")
    return elements


def draw_legend(text: str, x: float, y: float, size: float) -> tuple[float, list[str]]:
    """The legend in a line, and its width. `text` is the terminal's: "# computed  x masked ..."."""
    elements, side, start = [], size * 1.4, x
    for part in text.split("  "):
        state, name = part.strip().split(" ", 1)
        elements += draw_cells([Cell(x, y, state)], side, size)
        elements.append(write(x + side + 6, y + side / 2 + 0.36 * size, mark_text(name), size))
        x += side + 6 + measure(name, size) + 14
    return x - start, elements
