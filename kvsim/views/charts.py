"""FLOPs per token over the context, with a cache and without, as lines in an SVG. Both axes are logarithmic."""

import math
from collections.abc import Sequence
from html import escape

from kvsim.costs.work.by_context import Point
from kvsim.i18n.language import Say
from kvsim.views.terminal.text import number

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 90, 20, 60, 50  # margins around the axes
STYLES = {"cached": "stroke:#1a7f37", "uncached": "stroke:#cf222e;stroke-dasharray:7 4"}


class LogScale:
    """Positions on two logarithmic axes: contexts from 1 to the right, FLOPs upwards between two powers of ten."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.far = max(math.log(max(p.context for p in points)), 1e-9)
        self.low = math.floor(math.log10(min(min(p.cached, p.uncached) for p in points)))
        self.high = max(math.ceil(math.log10(max(max(p.cached, p.uncached) for p in points))), self.low + 1)

    def x(self, context: int) -> float:
        """The horizontal position of a context."""
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(context) / self.far

    def y(self, flops: float) -> float:
        """The vertical position of a number of FLOPs."""
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (math.log10(flops) - self.low) / (self.high - self.low)


def _draw_axes(points: Sequence[Point], scale: LogScale) -> list[str]:
    """Axes with ticks: at each power of ten, and at six contexts or so."""
    foot = HEIGHT - BOTTOM
    parts = [f'<polyline points="{LEFT},{TOP} {LEFT},{foot} {WIDTH - RIGHT},{foot}" fill="none" stroke="black"/>']
    for exponent in range(scale.low, scale.high + 1):
        y = scale.y(10.0**exponent)
        parts.append(f'<line x1="{LEFT - 4}" x2="{LEFT}" y1="{y:.1f}" y2="{y:.1f}" stroke="black"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">1e{exponent}</text>')
    for p in points[:: max(1, len(points) // 6)]:
        x = scale.x(p.context)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{foot}" y2="{foot + 4}" stroke="black"/>')
        parts.append(f'<text x="{x:.1f}" y="{foot + 20}" text-anchor="middle">{number(p.context)}</text>')
    return parts


def draw_by_context(points: Sequence[Point], convention: str, model: str, say: Say) -> str:
    """The SVG: two lines over the context, one that rises and one that is nearly flat."""
    scale = LogScale(points)
    names = {"cached": say("cached"), "uncached": say("no cache")}
    title = say("{model}: FLOPs a token over context, {convention} (both axes logarithmic)")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20">{escape(title.format(model=model, convention=convention))}</text>',
        *_draw_axes(points, scale),
    ]
    for row, (run, style) in enumerate(STYLES.items()):
        line = " ".join(f"{scale.x(p.context):.1f},{scale.y(getattr(p, run)):.1f}" for p in points)
        y = TOP - 26 + 18 * row
        parts.append(f'<polyline points="{line}" fill="none" stroke-width="2" style="{style}"/>')
        parts.append(
            f'<line x1="{LEFT + 20}" x2="{LEFT + 60}" y1="{y}" y2="{y}" stroke-width="2" style="{style}"/>'
            f'<text x="{LEFT + 68}" y="{y + 4}">{escape(names[run])}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
