"""FLOPs a token over the context, with a cache and without: bars on a terminal, lines in an SVG. Scales are
logarithmic, and say so."""

import math
from collections.abc import Sequence
from html import escape

from kvsim.costs.work.by_context import Point
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.text import number

WIDTH = 40  # cells of the longest bar


def to_bars(points: Sequence[Point], convention: str, say: Say, ascii_only: bool = False) -> str:
    """Two bars a context. A cell is a factor, the same everywhere; the shortest bar has one cell."""
    say = plain(say) if ascii_only else say
    marks = ("#", ".") if ascii_only else ("█", "░")
    lows = min(min(p.cached, p.uncached) for p in points)
    highs = max(max(p.cached, p.uncached) for p in points)
    span = math.log(highs / lows) or 1.0
    factor = math.exp(span / (WIDTH - 1))
    lines = [
        say("FLOPs a token over context, {convention}; each cell is {factor} times as many").format(
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


def to_svg(points: Sequence[Point], convention: str, model: str, say: Say) -> str:
    """Two lines over the context, both axes logarithmic: one that rises, one that is nearly flat."""
    width, height, left, right, top, bottom = 720, 420, 90, 20, 60, 50
    far = max(math.log(max(p.context for p in points)), 1e-9)
    low = math.floor(math.log10(min(min(p.cached, p.uncached) for p in points)))
    high = max(math.ceil(math.log10(max(max(p.cached, p.uncached) for p in points))), low + 1)

    def across(context: int) -> float:
        return left + (width - left - right) * math.log(context) / far

    def up(flops: float) -> float:
        return height - bottom - (height - bottom - top) * (math.log10(flops) - low) / (high - low)

    styles = {"cached": "stroke:#1a7f37", "uncached": "stroke:#cf222e;stroke-dasharray:7 4"}
    names = {"cached": say("cached"), "uncached": say("no cache")}
    title = say("{model}: FLOPs a token over context, {convention} (both axes logarithmic)")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="20">{escape(title.format(model=model, convention=convention))}</text>',
        f'<polyline points="{left},{top} {left},{height - bottom} {width - right},{height - bottom}" fill="none"'
        ' stroke="black"/>',
    ]
    for exponent in range(low, high + 1):
        y = up(10.0**exponent)
        parts.append(f'<line x1="{left - 4}" x2="{left}" y1="{y:.1f}" y2="{y:.1f}" stroke="black"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">1e{exponent}</text>')
    for p in points[:: max(1, len(points) // 6)]:
        x = across(p.context)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{height - bottom}" y2="{height - bottom + 4}" stroke="black"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 20}" text-anchor="middle">{number(p.context)}</text>')
    for row, way in enumerate(("cached", "uncached")):
        spots = " ".join(f"{across(p.context):.1f},{up(getattr(p, way)):.1f}" for p in points)
        y = top - 26 + 18 * row
        parts.append(f'<polyline points="{spots}" fill="none" stroke-width="2" style="{styles[way]}"/>')
        parts.append(
            f'<line x1="{left + 20}" x2="{left + 60}" y1="{y}" y2="{y}" stroke-width="2" style="{styles[way]}"/>'
            f'<text x="{left + 68}" y="{y + 4}">{escape(names[way])}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
