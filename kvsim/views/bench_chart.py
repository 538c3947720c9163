"""The chart of `kvsim bench`: milliseconds per token over context, as SVG."""

from html import escape

from kvsim.benchmark.record import Benchmark

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 70, 20, 30, 50
STYLES = {"cached": "stroke:#1a7f37", "uncached": "stroke:#cf222e;stroke-dasharray:7 4", "peer": "stroke:#57606a"}


def to_svg(bench: Benchmark) -> str:
    """Median milliseconds per token over context, one line for each of `bench.ways`; both axes linear from 0."""
    series = {way: [(point.context, 1e3 * point.median(way)) for point in bench.points] for way in bench.ways}
    far = max(point.context for point in bench.points) or 1
    high = max(y for line in series.values() for _, y in line) * 1.05

    def place(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / far
        return f"{across:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y / high:.1f}"

    names = {"cached": "cached", "uncached": "no cache", "peer": str(bench.peer)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<polyline points="{place(0, high)} {place(0, 0)} {place(far, 0)}" fill="none" stroke="black"/>',
        f'<text x="{LEFT}" y="18">{escape(bench.model)}: ms / token</text>',
        f'<text x="{WIDTH - 130}" y="{HEIGHT - 12}">context {far}</text>',
        f'<text x="8" y="36">{high:.0f} ms</text>',
    ]
    for row, (way, line) in enumerate(series.items()):
        spots = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{spots}" fill="none" stroke-width="2" style="{STYLES[way]}"/>')
        y = 46 + 18 * row
        parts.append(
            f'<line x1="{LEFT + 20}" x2="{LEFT + 60}" y1="{y}" y2="{y}" stroke-width="2" style="{STYLES[way]}"/>'
            f'<text x="{LEFT + 68}" y="{y + 4}">{escape(names[way])}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
