"""Lines broken at the width of a terminal: at spaces, and between Chinese characters."""

import re
from collections.abc import Iterator

from rich.cells import cell_len

WIDTH = 80
NEVER_FIRST = "，。；：、！？）」』”’)],.;:!?"  # at the start of a line
PIECES = re.compile(r"[ ]*[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f]|[ ]*[^ \u2e80-\u9fff\uff00-\uffef\u3000-\u303f]+")


def wrap(text: str, width: int = WIDTH) -> str:
    """`text` with no line wider than `width` cells, unless one word is; what is broken off is indented by two more."""
    return "\n".join(part for line in text.split("\n") for part in _break(line.rstrip(), width))


def _break(line: str, width: int) -> Iterator[str]:
    if cell_len(line) <= width:
        yield line
        return
    indent = line[: len(line) - len(line.lstrip(" "))]
    current, later = indent, f"{indent}  "
    for piece in PIECES.findall(line[len(indent) :]):
        full = cell_len(current + piece) > width and piece.strip() not in NEVER_FIRST
        if full and current.strip():
            yield current.rstrip()
            current = later + piece.lstrip(" ")
        else:
            current += piece if current.strip() else piece.lstrip(" ")
    yield current.rstrip()
