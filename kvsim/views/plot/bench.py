"""The chart of `kvsim bench`: milliseconds per token over context."""

import statistics
from typing import TYPE_CHECKING

from kvsim.benchmark.record import Benchmark
from kvsim.i18n.language import Say
from kvsim.views.plot.chart import STYLES, make_figure, name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_bench(bench: Benchmark, say: Say) -> "Figure":
    """Median milliseconds per token over context, one line for each of `bench.ways`; shaded: the quartiles of the
    repeats. Both axes are linear from 0."""
    figure = make_figure()
    axes = figure.add_subplot()
    names = {"cached": say("cached"), "uncached": say("no cache"), "peer": str(bench.peer)}
    contexts = [point.context for point in bench.points]
    for way in bench.ways:
        style = STYLES[way]
        medians = [1e3 * point.median(way) for point in bench.points]
        axes.plot(contexts, medians, label=names[way], **style)
        times = [getattr(point, way) for point in bench.points]
        if min(map(len, times)) >= 2:
            low, _, high = zip(*(statistics.quantiles(repeats, n=4) for repeats in times), strict=True)
            bounds = ([1e3 * t for t in low], [1e3 * t for t in high])
            axes.fill_between(contexts, *bounds, color=style["color"], alpha=0.18, linewidth=0)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(say("context, tokens"))
    axes.set_ylabel(say("ms per token, median"))
    axes.set_title(say(", ").join([name(bench.model), bench.dtype, name(bench.machine)]))
    axes.legend()
    return figure
