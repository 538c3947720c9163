"""What `kvsim bench` measured, told: a table, JSON, and a plot."""

import json
import statistics
from html import escape
from typing import Any

from rich.cells import cell_len

from kvsim.benchmark.decoding import Point, Prefill, all_timed, totals
from kvsim.i18n.language import Say

WAYS = ("cached", "uncached", "peer")
WIDTHS = (8, 16, 18, 9, 9, 7, 18)


def to_dict(
    facts: dict[str, Any], prefill: Prefill | None, points: list[Point], first: int, last: int, partial: bool
) -> dict[str, Any]:
    """Everything measured, as `kvsim.bench/1`: seconds of every repeat, exact FLOPs and bytes."""
    return {
        "schema": "kvsim.bench/1",
        **facts,
        "partial": partial,
        "prefill": None if prefill is None else vars(prefill),
        "points": [vars(point) for point in points],
        "seconds": {way: totals(points, way, first, last) for way in WAYS if points and getattr(points[0], way)},
        "seconds_are": "sums of every step"
        if all_timed(points, first, last)
        else "interpolated between the contexts of the points",
    }


def to_json(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, allow_nan=False)


def _milliseconds(times: list[float]) -> str:
    """Median, and how far the middle half reaches to each side."""
    if not times:
        return "-"
    if len(times) < 2:
        return f"{1e3 * times[0]:.2f}"
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{1e3 * middle:.2f} ±{1e3 * (high - low) / 2:.2f}"


def _row(cells: list[str | None]) -> str:
    """Cells set to the right of their columns, Chinese characters two wide; None at the end: no such column."""
    pairs = zip(cells, WIDTHS, strict=True)
    return "".join(" " * max(1, width - cell_len(cell)) + cell for cell, width in pairs if cell is not None)


def tell_heading(facts: dict[str, Any], prefill: Prefill, say: Say) -> str:
    """The model, the machine's limits, and the prefill."""
    lines = [
        say("model {model}, {parameters} parameters, {dtype} on {backend}, {machine}").format(**facts),
        say("measured here: reads {read} GB/s, multiplies {multiply} GFLOP/s").format(
            read=f"{facts['read_bytes_per_second'] / 1e9:.1f}", multiply=f"{facts['flops_per_second'] / 1e9:.0f}"
        ),
        say("prefill of {tokens} tokens: {time} ms, {share}% of that product speed").format(
            tokens=prefill.tokens,
            time=_milliseconds(prefill.seconds),
            share=f"{100 * prefill.useful_flops / statistics.median(prefill.seconds) / facts['flops_per_second']:.0f}",
        ),
        say("ms a token (median ± half of the middle half), and of what the machine reads in that time:"),
        _row([say("context"), say("cached"), say("no cache"), say("faster"), say("FLOPs"), say("read"), facts["peer"]]),
    ]
    return "\n".join(lines)


def tell_point(point: Point, facts: dict[str, Any]) -> str:
    """One row."""
    cached = statistics.median(point.cached)
    faster = f"{statistics.median(point.uncached) / cached:.1f}x" if point.uncached else "-"
    flops = f"{point.uncached_flops / point.cached_flops:.0f}x" if point.uncached else "-"
    read = f"{100 * point.read_bytes / cached / facts['read_bytes_per_second']:.0f}%"
    peer = _milliseconds(point.peer) if facts["peer"] else None
    uncached = _milliseconds(point.uncached)
    return _row([str(point.context), _milliseconds(point.cached), uncached, faster, flops, read, peer])


def tell_sums(facts: dict[str, Any], points: list[Point], first: int, last: int, partial: bool, say: Say) -> str:
    """The tokens fed at contexts `first` .. `last`, or as far as was timed, interpolated where not every step was;
    and why time and FLOPs differ."""
    last = min(last, points[-1].context) if partial else last
    tokens = last - first + 1
    cached = totals(points, "cached", first, last)
    text = say("{tokens} tokens, interpolated between these contexts: {seconds} s with a cache, {speed} tokens/s")
    if all_timed(points, first, last):
        text = say("{tokens} tokens, every step timed: {seconds} s with a cache, {speed} tokens/s")
    lines = [text.format(tokens=tokens, seconds=f"{cached:.2f}", speed=f"{tokens / cached:.1f}")]
    if points[0].uncached:
        uncached = totals(points, "uncached", first, last)
        lines.append(
            say("without one {seconds} s: {faster} times as long. FLOPs fall by more than time does: one token at a"
                " time waits for weights to be read, many at once for products.").format(
                seconds=f"{uncached:.2f}", faster=f"{uncached / cached:.1f}"
            )
        )  # fmt: skip
    if facts["peer"]:
        peer = totals(points, "peer", first, last)
        lines.append(
            say("{peer}, same weights, logits checked: {seconds} s, {ratio} times kvsim's time").format(
                peer=facts["peer"], seconds=f"{peer:.2f}", ratio=f"{peer / cached:.2f}"
            )
        )
    if facts["peak_memory"] is not None:
        lines.append(
            say(
                "peak memory of the process {bytes} B, with the matrices of the two measurements (up to 512 MiB)"
            ).format(bytes=f"{facts['peak_memory']:,}")
        )
    if partial:
        lines.append(say("partial: interrupted"))
    return "\n".join(lines)


def to_svg(facts: dict[str, Any], points: list[Point]) -> str:
    """Milliseconds a token over context, a line a way: one that rises and one that stays flat."""
    width, height, left, bottom = 720, 400, 70, 50
    ways = [way for way in WAYS if getattr(points[0], way)]
    series = {way: [(p.context, 1e3 * statistics.median(getattr(p, way))) for p in points] for way in ways}
    far = max(p.context for p in points) or 1
    high = max(y for line in series.values() for _, y in line) * 1.05

    def place(x: float, y: float) -> str:
        return f"{left + (width - left - 20) * x / far:.1f},{height - bottom - (height - bottom - 30) * y / high:.1f}"

    styles = {"cached": "stroke:#1a7f37", "uncached": "stroke:#cf222e;stroke-dasharray:7 4", "peer": "stroke:#57606a"}
    names = {"cached": "cached", "uncached": "no cache", "peer": str(facts["peer"])}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<polyline points="{place(0, high)} {place(0, 0)} {place(far, 0)}" fill="none" stroke="black"/>',
        f'<text x="{left}" y="18">{escape(str(facts["model"]))}: ms / token</text>',
        f'<text x="{width - 130}" y="{height - 12}">context {far}</text>',
        f'<text x="8" y="36">{high:.0f} ms</text>',
    ]
    for row, (way, line) in enumerate(series.items()):
        spots = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{spots}" fill="none" stroke-width="2" style="{styles[way]}"/>')
        parts.append(
            f'<line x1="{left + 20}" x2="{left + 60}" y1="{46 + 18 * row}" y2="{46 + 18 * row}" stroke-width="2"'
            f' style="{styles[way]}"/><text x="{left + 68}" y="{50 + 18 * row}">{escape(names[way])}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
