"""Text made safe to print on a terminal."""

import unicodedata

_BLANK = "\u115f\u1160\u3164\uffa0"  # Hangul fillers: letters that fonts draw as nothing


def printable(text: str, ascii_only: bool = False) -> str:
    """`text` with line ends as ↵ (ASCII: \\n), and control, invisible and combining characters escaped."""
    return "".join(_show_character(c, ascii_only) for c in text)


def _show_character(c: str, ascii_only: bool) -> str:
    if c == "\n":
        return "\\n" if ascii_only else "↵"
    combining = unicodedata.category(c).startswith("M")  # as it is, it would change its neighbour
    if not c.isprintable() or c in _BLANK or combining:
        return c.encode("unicode_escape").decode("ascii")
    return c


def show_token(piece: str, ascii_only: bool = False) -> str:
    """A token as `printable`, and one of spaces only with visible spaces (␣)."""
    shown = printable(piece, ascii_only)
    return shown if shown.strip() else shown.replace(" ", "' '" if ascii_only else "␣")


def show_end(text: str, ascii_only: bool = False) -> str:
    """Printable `text` with the spaces at its end made visible (␣; ASCII: _)."""
    kept = text.rstrip(" ")
    return kept + ("_" if ascii_only else "␣") * (len(text) - len(kept))
