"""Pieces of text on a terminal: safe to print, cut and padded by the cells they take."""

import unicodedata

from rich.cells import cell_len, set_cell_size


def printable(text: str, ascii_only: bool = False) -> str:
    """Text that moves no cursor and hides nothing: line ends as a sign, other controls escaped."""
    return "".join(_shown(c, ascii_only) for c in text)


def named(piece: str, ascii_only: bool = False) -> str:
    """A token by itself: as `printable`, but a blank one can be seen."""
    shown = printable(piece, ascii_only)
    return shown if shown.strip() else shown.replace(" ", "' '" if ascii_only else "␣")


def _shown(c: str, ascii_only: bool) -> str:
    if c == "\n":
        return "\\n" if ascii_only else "↵"
    if not c.isprintable() or unicodedata.category(c).startswith("M"):  # a mark would join its neighbour
        return c.encode("unicode_escape").decode("ascii")
    return c


def tail(text: str, width: int, ascii_only: bool = False) -> str:
    """The end of `text` that fits in `width` cells, marked where it was cut."""
    if cell_len(text) <= width:
        return text
    mark = "..." if ascii_only else "…"
    room = width - len(mark)
    kept = ""
    for c in reversed(text):
        if cell_len(c + kept) > room:
            break
        kept = c + kept
    return mark + kept


def pad(text: str, width: int) -> str:
    """`text` in exactly `width` cells, cut or filled on the right."""
    return set_cell_size(text, width)


def number(value: int) -> str:
    """An exact integer with its thousands parted."""
    return f"{value:,}"


def percent_saved(before: int, after: int) -> str:
    """How much of `before` is not in `after`, in whole percent; with decimals where that would say all."""
    if before == 0:
        return "0%"
    saved, decimals = 100 * (before - after) / before, 0
    while after > 0 and decimals < 9 and float(f"{saved:.{decimals}f}") >= 100:
        decimals += 1
    return f"{saved:.{decimals}f}%"


def significant(value: float) -> str:
    """A measured number in two significant digits."""
    return f"{value:.1e}" if value else "0"


def byte_line(count: int) -> str:
    """The exact count, then GiB (2^30 bytes) and GB (10^9 bytes), each under its own name."""
    return f"{count:,} B = {count / 2**30:.3g} GiB = {count / 10**9:.3g} GB"
