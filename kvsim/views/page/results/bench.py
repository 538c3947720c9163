"""The page of `kvsim bench`: what was measured at each context, with bars and quartiles, and on which processor."""

import html
import statistics
from collections.abc import Sequence

from kvsim.benchmark.record import Benchmark, Point
from kvsim.i18n.language import Say
from kvsim.i18n.printable import printable
from kvsim.views.json.bench import to_dict
from kvsim.views.page.kinds import Told
from kvsim.views.terminal.bench import bench_parts, name_columns, say_heading, say_sums, show_point
from kvsim.views.terminal.sheet import Sheet
from kvsim.views.terminal.text import cut


def tell(bench: Benchmark) -> Told:
    """The page's data and texts."""
    name = cut(printable(bench.model), 40)
    shown = [show_point(point, bench) for point in bench.points]
    return Told(
        data={
            "title": name,
            "record": to_dict(bench),
            "ways": bench.ways,
            "quartiles": {way: [_quartiles(point, way) for point in bench.points] for way in bench.ways},
            "shown": {key: [row[key] for row in shown] for key in ("cached", "no_cache", "peer", "faster", "read")},
            "machine": printable(bench.machine),
        },
        texts=lambda say: _texts(bench, say),
        keys=lambda say: [],
        lines=lambda say: (printable(say_heading(bench, say)[0]), [*map(printable, _notes(bench, say))]),
        title=lambda say: say("ms per token: {model}").format(model=name),
        still=lambda say: _draw_still(bench, say),
    )


def _quartiles(point: Point, way: str) -> list[float]:
    """First quartile, median and third quartile of the repeats, in seconds; of one repeat three times it."""
    times: Sequence[float] = getattr(point, way)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return [low, point.median(way), high]


def _notes(bench: Benchmark, say: Say) -> list[str]:
    return [*say_heading(bench, say)[1:], *say_sums(bench, say)]


def _texts(bench: Benchmark, say: Say) -> dict[str, str]:
    names = name_columns(bench, say)
    return {
        "title": say("ms per token: {model}"),
        "heading": say("Milliseconds per token, measured on this machine"),
        "tab_measured": say("Measured"),
        "tab_repeats": say("Every repeat"),
        "cached": names["cached"],
        "uncached": names["no_cache"],
        "peer": printable(names["peer"]),
        "context": names["context"],
        "faster": names["faster"],
        "read": names["read"],
        "milliseconds": say("ms per token, median"),
        "seconds_of": say("seconds for all tokens"),
        "bars": say("Bar: the median of the repeats. Line: from the first to the third quartile."),
        "machine": say("processor"),
        "caption": say("ms per token (median ± half the interquartile range); read: share of these GB/s"),
        "repeats": say("milliseconds of every repeat"),
        "sentence": say("Context {context}: {cached} ms with a cache, {uncached} ms without, {faster}."),
        "sentence_cached": say("Context {context}: {cached} ms with a cache."),
    }


def _draw_still(bench: Benchmark, say: Say) -> str:
    """The lines and the table, as they are printed."""
    parts = [f"<h1>{html.escape(printable(bench.model), quote=False)}</h1>"]
    for part in bench_parts(bench, say):
        if isinstance(part, Sheet):
            rows = [[column.heading for column in part.columns], *part.rows]
            cells = ("".join(f"<td>{html.escape(printable(cell), quote=False)}" for cell in row) for row in rows)
            parts.append(f"<table>{''.join(f'<tr>{row}' for row in cells)}</table>")
        elif isinstance(part, str):
            parts.append(f"<p>{html.escape(printable(part), quote=False)}</p>")
    return "".join(parts)
