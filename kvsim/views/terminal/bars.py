"""FLOPs per token over the context, with a cache and without, as bars on a terminal. The scale is logarithmic."""

import math
from collections.abc import Sequence
from functools import partial

from rich.text import Text

from kvsim.costs.work.by_context import Point
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Drawing, Part
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import number

WIDTH = 40  # cells of the longest bar


def _longest(points: Sequence[Point], width: int | None) -> int:
    """Cells of the longest bar: WIDTH, or what a narrow terminal leaves beside the numbers."""
    left = max(len(number(p.context)) for p in points)
    right = max(len(number(max(p.cached, p.uncached))) for p in points)
    return WIDTH if width is None else max(2, min(WIDTH, width - left - right - 2))


def _draw(points: Sequence[Point], marks: tuple[str, str], width: int | None) -> Text:
    """Two bars for each context, with a cache and without. Each cell multiplies by the same factor; the shortest bar
    has one cell."""
    most = _longest(points, width)
    lows = min(min(p.cached, p.uncached) for p in points)
    span = _span(points)
    left = max(len(number(p.context)) for p in points)
    lines = []
    for p in points:
        for mark, value, name in ((marks[0], p.cached, number(p.context)), (marks[1], p.uncached, "")):
            cells = 1 + round((most - 1) * math.log(value / lows) / span)
            lines.append(f"{name:>{left}} {mark * cells} {number(value)}")
    return Text("\n".join(lines))


def _span(points: Sequence[Point]) -> float:
    """The logarithm of the largest value over the smallest; 1 if they are equal."""
    lows = min(min(p.cached, p.uncached) for p in points)
    highs = max(max(p.cached, p.uncached) for p in points)
    return math.log(highs / lows) or 1.0


def to_bars(points: Sequence[Point], convention: str, say: Say, screen: Screen = ANYWHERE) -> str:
    """What a cell of a bar stands for, the two marks, and the bars."""
    say = plain(say) if screen.ascii_only else say
    marks = ("#", ".") if screen.ascii_only else ("█", "░")
    factor = math.exp(_span(points) / (_longest(points, screen.width) - 1))
    parts: list[Part] = [
        say("FLOPs a token over context, {convention}; each cell multiplies by {factor}").format(
            convention=convention, factor=f"{factor:.2f}"
        ),
        f"{marks[0]} {say('cached')}   {marks[1]} {say('no cache')}",
        Drawing(partial(_draw, points, marks)),
    ]
    return lay_out(parts, say, screen)
