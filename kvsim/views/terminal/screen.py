"""What an output is made for: the width of its lines, its characters, its colors."""

import shutil
import sys
from typing import Literal, NamedTuple

NARROWEST = 20  # cells; a terminal that says it has fewer is taken to have these


class Screen(NamedTuple):
    """What an output is made for. `width`: cells of a line; None: no limit, as for a file or a pipe. `color`: rich's
    name of the terminal's colors, or None for none."""

    width: int | None = None
    ascii_only: bool = False
    color: Literal["standard", "256", "truecolor"] | None = None


ANYWHERE = Screen()  # what is not a terminal


def terminal_width() -> int | None:
    """The cells of a line of stdout (COLUMNS, if set). None where stdout is no terminal: a file or a pipe gets the same
    bytes everywhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(shutil.get_terminal_size().columns, NARROWEST)
