"""FLOPs per token over the context, with a cache and without, as bars on a terminal. The scale is logarithmic."""

import math
from collections.abc import Sequence

from kvsim.costs.work.by_context import Point
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.text import number

WIDTH = 40  # cells of the longest bar


def to_bars(points: Sequence[Point], convention: str, say: Say, ascii_only: bool = False) -> str:
    """Two bars for each context, with a cache and without. Each cell multiplies by the same factor; the shortest bar
    has one cell."""
    say = plain(say) if ascii_only else say
    marks = ("#", ".") if ascii_only else ("█", "░")
    lows = min(min(p.cached, p.uncached) for p in points)
    highs = max(max(p.cached, p.uncached) for p in points)
    span = math.log(highs / lows) or 1.0
    factor = math.exp(span / (WIDTH - 1))
    lines = [
        say("FLOPs a token over context, {convention}; each cell multiplies by {factor}").format(
            convention=convention, factor=f"{factor:.2f}"
        ),
        f"{marks[0]} {say('cached')}   {marks[1]} {say('no cache')}",
    ]
    left = max(len(number(p.context)) for p in points)
    for p in points:
        for mark, value, name in ((marks[0], p.cached, number(p.context)), (marks[1], p.uncached, "")):
            cells = 1 + round((WIDTH - 1) * math.log(value / lows) / span)
            lines.append(f"{name:>{left}} {mark * cells} {number(value)}")
    return "\n".join(lines)
