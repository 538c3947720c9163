"""What stdout can show, and results written to it."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kvsim.views.terminal.screen import Screen


def use_color(stream: Any) -> bool:
    """Is output colored? NO_COLOR decides, then FORCE_COLOR, then whether `stream` is a terminal (no-color.org,
    force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream is not None and stream.isatty())


def find_screen(ascii_only: bool = False) -> "Screen":
    """What stdout can show."""
    from kvsim.views.terminal.screen import Screen, terminal_width

    width = terminal_width()
    if not use_color(sys.stdout):
        return Screen(width, ascii_only)
    from rich.console import Console

    found = Console(force_terminal=True, color_system="auto").color_system  # from COLORTERM and TERM
    return Screen(width, ascii_only, "truecolor" if found == "truecolor" else "256" if found == "256" else "standard")


def show(text: str, screen: "Screen") -> None:
    """Write a result to stdout, with the colors of `screen`."""
    click.echo(text, color=screen.color is not None)
