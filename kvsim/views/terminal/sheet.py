"""Tables, lines and drawings as data, before they are laid out for a terminal or a notebook."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rich.text import Text

# What a cell may do where the terminal is too narrow: nothing, become several lines at words, lose its beginning, or
# its end. Numbers never do.
Bend = Literal["whole", "wrap", "tail", "cut"]


class Column(NamedTuple):
    """A column of a sheet. `key` names it in LEAST_FIRST."""

    key: str
    heading: str
    side: Literal["left", "right"] = "right"
    total: str = ""  # its cell in the last row, where the sheet has totals
    bend: Bend = "whole"


@dataclass
class Sheet:
    """A table. `name` is its entry of LEAST_FIRST, which says what is left out first on a narrow terminal."""

    name: str
    columns: Sequence[Column]
    rows: list[list[str]] = field(default_factory=list)  # a row may end early
    totals: bool = False  # with a last row of the columns' totals
    sections: frozenset[int] = frozenset()  # indices of rows below which a line is drawn
    gap: str = ""  # says, in a row of its own, how many rows are not shown
    in_json: bool = True  # does the command's --json have what a narrow terminal leaves out?

    def add(self, *cells: str) -> None:
        """A row."""
        self.rows.append(list(cells))


class Drawing(NamedTuple):
    """Cells drawn beside each other, in at most that many terminal cells, or in any number (None)."""

    draw: Callable[[int | None], Text]


Part = str | Sheet | Drawing  # of an output; a str is a line, which is wrapped
