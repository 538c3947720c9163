"""The charts of `kvsim cost`: FLOPs a token over context, and a device's roofline with the model's phases on it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvsim.costs.public.devices import Device
from kvsim.costs.work.by_context import Point
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost
from kvsim.costs.work.roofline import Limits
from kvsim.i18n.language import Say
from kvsim.views.plot.chart import STYLES, decimal, make_figure, name, set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_cost(
    found: Cost, points: Sequence[Point], convention: Convention, device: Device | None, limits: Limits | None, say: Say
) -> "Figure":
    """FLOPs a token over context under `convention`; beside it the roofline, if there is a device."""
    if device is None or limits is None:
        figure = make_figure()
        draw_growth(figure.add_subplot(), found, points, convention, say)
        return figure
    figure = make_figure(width=13.0, height=5.0)
    left, right = figure.subplots(1, 2)
    draw_growth(left, found, points, convention, say)
    draw_roofline(right, found, convention, device, limits, say)
    return figure


def draw_growth(axes: "Axes", found: Cost, points: Sequence[Point], convention: Convention, say: Say) -> None:
    """Two lines over the context, one that rises and one that is nearly flat; both axes are logarithmic."""
    contexts = [point.context for point in points]
    for run, label in (("uncached", say("no cache")), ("cached", say("cached"))):
        axes.plot(contexts, [getattr(point, run) for point in points], label=label, **STYLES[run])
    set_scale(axes, "x", contexts, 2)
    set_scale(axes, "y", [flops for point in points for flops in (point.cached, point.uncached)], 10)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: decimal(value))
    axes.set_xlabel(say("context, tokens"))
    axes.set_ylabel(say("FLOPs a token"))
    title = say("{model}: FLOPs a token over context (convention {convention})")
    axes.set_title(title.format(model=name(found.count.model), convention=convention))
    axes.legend()


def draw_roofline(axes: "Axes", found: Cost, convention: Convention, device: Device, limits: Limits, say: Say) -> None:
    """The most FLOP/s that the device reaches at each number of FLOPs per byte, and where prefill and decode lie, with
    a cache and without: their FLOPs per byte, and their FLOPs over the bound on their seconds. An overhead puts them
    below the roof."""
    ridge = float(limits.ridge)
    reached: list[float] = []
    for run, label, side, size in (
        ("uncached", say("no cache"), found.uncached, 13.0),
        ("cached", say("cached"), found.cached, 7.0),
    ):
        bounds = side.bounds(limits, convention)
        phases = ((say("prefill"), side.prefill, "o"), (say("decode"), side.decode, "D"))
        for (phase_name, phase, marker), bound in zip(phases, bounds, strict=True):
            intensity = phase.intensity(convention)
            if intensity is None:  # a single new token needs no decode step
                continue
            speed = float(phase.flops(convention) / bound.seconds)
            reached.append(float(intensity))
            axes.plot(
                [float(intensity)], [speed], linestyle="none", marker=marker, markersize=size, zorder=3,
                color=STYLES[run]["color"], fillstyle="none" if run == "uncached" else "full", markeredgewidth=2.0,
                label=f"{phase_name}{say(', ')}{label}",
            )  # fmt: skip
    ends = min(*reached, ridge) / 4, max(*reached, ridge) * 4
    roof = [ends[0], ridge, ends[1]]
    axes.plot(roof, [x * limits.bandwidth if x < ridge else limits.peak for x in roof], color="#1F1F1F", zorder=2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.yaxis.set_major_formatter(lambda value, _: decimal(value))
    axes.minorticks_off()
    axes.set_xlabel(say("FLOPs per byte"))
    axes.set_ylabel(say("FLOP/s"))
    title = say("{device}: roofline in {dtype}, ridge point {ridge} FLOPs/B")
    axes.set_title(title.format(device=name(device.name), dtype=found.count.dtype, ridge=f"{ridge:.1f}"))
    axes.legend(loc="lower right")
