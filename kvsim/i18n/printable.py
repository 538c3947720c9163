"""Text made safe to print."""

import unicodedata

_BLANK = "\u115f\u1160\u3164\uffa0"  # letters that fonts draw as nothing


def printable(text: str, ascii_only: bool = False) -> str:
    """Text that moves no cursor and hides nothing: line ends as a sign, other controls escaped."""
    return "".join(_shown(c, ascii_only) for c in text)


def _shown(c: str, ascii_only: bool) -> str:
    if c == "\n":
        return "\\n" if ascii_only else "↵"
    if not c.isprintable() or c in _BLANK or unicodedata.category(c).startswith("M"):  # a mark would join its neighbour
        return c.encode("unicode_escape").decode("ascii")
    return c


def named(piece: str, ascii_only: bool = False) -> str:
    """A token by itself: as `printable`, but a blank one can be seen."""
    shown = printable(piece, ascii_only)
    return shown if shown.strip() else shown.replace(" ", "' '" if ascii_only else "␣")


def ended(text: str, ascii_only: bool = False) -> str:
    """`text`, printable already, with the blanks at its end made visible."""
    kept = text.rstrip(" ")
    return kept + ("_" if ascii_only else "␣") * (len(text) - len(kept))
