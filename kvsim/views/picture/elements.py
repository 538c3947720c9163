"""Elements of an SVG: text, paths and their layout. Presentation attributes only: no style, script, font, id or link,
so that a picture can stand in a page with a strict policy, several times, and in a slide."""

from typing import NamedTuple
from unicodedata import bidirectional
from xml.sax.saxutils import escape, quoteattr

from rich.cells import cell_len

from kvsim.i18n.printable import printable

FONTS = "system-ui, 'Noto Sans SC', 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
_RIGHT_TO_LEFT = {"R", "AL", "AN"}


class Drawing(NamedTuple):
    """Elements in a box from (0, 0), in pixels."""

    width: float
    height: float
    elements: list[str]

    def moved(self, x: float, y: float) -> str:
        """The elements with their corner at (x, y)."""
        return "\n".join([f'<g transform="translate({x:g} {y:g})">', *self.elements, "</g>"])


def measure(text: str, size: float) -> float:
    """An upper estimate of the width of `text` in pixels at a font size: the reader's fonts are not known."""
    return sum(1.0 if cell_len(c) == 2 else 0.64 for c in text) * size


def mark_text(text: str) -> str:
    """`text` as XML. Control characters are escaped, since XML allows few of them; text that runs from right to left is
    isolated, so that it does not reorder the sentence around it."""
    shown = escape(printable(text))
    if any(bidirectional(c) in _RIGHT_TO_LEFT for c in shown):
        return f'<tspan unicode-bidi="isolate" direction="ltr">{shown}</tspan>'
    return shown


def fill_in(template: str, **values: object) -> str:
    """A sentence as XML, each value as by `mark_text`."""
    return escape(template).format(**{name: mark_text(str(value)) for name, value in values.items()})


def write(x: float, y: float, marked: str, size: float, anchor: str = "start", more: str = "") -> str:
    """A <text> with its baseline at y; `marked` is XML."""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{place}{more}>{marked}</text>'


def wrap(drawing: Drawing, title: str, language: str) -> str:
    """The whole SVG, on a white ground of its own, readable in dark pages; `title` for those who do not see it."""
    width, height = (f"{side:g}" for side in drawing[:2])
    name = quoteattr(printable(title))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' xml:lang="{language}" lang="{language}" role="img" aria-label={name} font-family="{FONTS}" fill="#000">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>',
        *drawing.elements,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
