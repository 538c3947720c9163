"""Text cut into lines by its width on a terminal, at words, and between Chinese characters as Chinese is set: closing
punctuation never begins a line, and an opening bracket never ends one."""

from collections.abc import Iterator

from rich.cells import cell_len

CLOSING = frozenset("，。、；：！？）》」』】〉〕］｝〗”’…—～·％,.;:!?)]}%")
OPENING = frozenset("（《「『【〈〔［｛〖“‘([{")
_CLOSING = "".join(CLOSING)
_DIGITS = frozenset("0123456789")
_NUMBER = _DIGITS | {",", "."}
_UNITS = frozenset({"B", "GiB", "GB", "MiB", "ms", "s", "GB/s", "nat"})  # they stay with their number


def _joined(before: str, after: str) -> bool:
    """Must two neighbours stay on one line: is the second closing punctuation, or the first an opening bracket?"""
    return after in CLOSING or before in OPENING or cell_len(after) == 0


def _joined_over_space(before: str, after: str) -> bool:
    """Likewise, with spaces between them: Chinese punctuation, and brackets. In " ! seen" the sign begins a part."""
    return (after in CLOSING and not after.isascii()) or before in OPENING


def _breaks(before: str, after: str) -> bool:
    """May a line end between two neighbours that are no spaces? Only beside a character of two cells."""
    return (cell_len(before) == 2 or cell_len(after) == 2) and not _joined(before, after)


def units(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a text that stay on one line, each with the spaces before it."""
    waiting: list[tuple[str, str]] = []  # the part before, if there is one
    for gap, part in _parts(text):
        if waiting and waiting[0][1][-1] in _DIGITS and part.rstrip(_CLOSING) in _UNITS:
            waiting = [(waiting[0][0], waiting[0][1] + gap + part)]
        else:
            yield from waiting
            waiting = [(gap, part)]
    yield from waiting


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """As `units`, with a number and its unit apart."""
    gap, unit, space = "", "", ""
    for c in text:
        if c == " ":
            space += c
            continue
        if unit and not (_joined_over_space(unit[-1], c) if space else not _breaks(unit[-1], c)):
            yield gap, unit
            gap, unit = space, c
        elif unit:
            unit += space + c
        else:
            gap, unit = space, c
        space = ""
    if unit:
        yield gap, unit


def _place(line: str, start: int, width: int) -> int:
    """Where a part that is wider than the line is cut, after `start`: best where lines may break, else outside a
    number, else at the width."""
    stop, cells = start, cell_len(line[:start])
    while stop < len(line) and (cells := cells + cell_len(line[stop])) <= width:
        stop += 1
    stop = max(stop, start + 1)
    places = range(stop, start, -1)
    outside = [k for k in places if not (line[k - 1] in _NUMBER and line[k] in _NUMBER)]
    return next((k for k in outside if not _joined(line[k - 1], line[k])), outside[0] if outside else stop)


def wrap(text: str, width: int | None, hang: int | None = None) -> list[str]:
    """`text` in lines of at most `width` cells (at least 2); as it is where it fits, or where `width` is None.

    Later lines are indented by `hang` cells: by default 2 more than the first, or 0 where that is not indented. A part
    without a place to break, such as a path, is cut where the line ends.
    """
    if width is None or cell_len(text) <= width:
        return [text]
    indent = len(text) - len(text.lstrip(" "))
    hang = (indent + 2 if indent else 0) if hang is None else hang
    lines, line, start = [], "", 0  # `start`: how many spaces of `line` are its indent
    for gap, unit in units(text):
        if len(line) > start and cell_len(line + gap + unit) <= width:
            line += gap + unit
            continue
        if len(line) > start:
            lines.append(line)
        start = hang if lines else indent
        start = start if start <= width // 2 else 0
        line = " " * start + unit
        while cell_len(line) > width and len(line) > start + 1:
            stop = _place(line, start, width)
            lines.append(line[:stop].rstrip(" "))
            start = hang if hang <= width // 2 else 0
            line = " " * start + line[stop:].lstrip(" ")
    return [*lines, line] if len(line) > start else lines
