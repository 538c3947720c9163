"""The chart of `kvsim memory`: bytes of weights and cache over context."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvsim.costs.bytes.memory import Held, Memory
from kvsim.i18n.language import Say
from kvsim.views.plot.chart import STYLES, binary, make_figure, name, set_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WEIGHTS = {"color": "#4D4D4D", "linestyle": (0, (1, 1.5)), "marker": "^"}
_BOTH = {"color": "#1F1F1F", "marker": "D"}
Size = Callable[[Held], int | None]


def draw_memory(memory: Memory, curve: Memory, say: Say) -> "Figure":
    """Bytes over context: the cache, the cache if every layer kept the full context, the weights, weights and cache
    together. Lines go through the contexts of `curve`, markers are at those of `memory`; both axes are logarithmic."""
    weights = memory.weight_bytes
    lines: list[tuple[str, Size, dict[str, Any]]] = [
        (say("weights and KV cache"), lambda held: weights + held.logical, _BOTH),
        (say("weights in {dtype}").format(dtype=memory.dtype), lambda held: weights, _WEIGHTS),
        (say("full context in every layer"), lambda held: held.everywhere, STYLES["uncached"]),
        (say("KV cache in {dtype}").format(dtype=memory.cache_dtype), lambda held: held.logical, STYLES["cached"]),
    ]
    figure = make_figure()
    axes = figure.add_subplot()
    drawn: list[int] = []
    for label, size, style in lines:
        sizes = [size(held) for held in curve.contexts]
        known = [found for found in sizes if found]  # a layer with a window of 1 keeps nothing
        if len(known) < len(sizes):
            continue
        drawn += known
        marked = [held.context in {chosen.context for chosen in memory.contexts} for held in curve.contexts]
        axes.plot([held.context for held in curve.contexts], known, label=label, markevery=marked, **style)
    set_scale(axes, "x", [held.context for held in curve.contexts], 2)
    set_scale(axes, "y", drawn, 4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: binary(value))
    axes.set_xlabel(say("context, tokens"))
    title = say("{model}: memory over context, batch {batch}")
    axes.set_title(title.format(model=name(memory.model), batch=f"{memory.batch:,}"))
    axes.legend()
    return figure
