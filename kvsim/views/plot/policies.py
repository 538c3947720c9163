"""The chart of `kvsim compare`: what each cache holds, and how far its logits are from the reference's."""

from typing import TYPE_CHECKING

from kvsim.comparisons.policies_record import PolicyComparison
from kvsim.i18n.language import Say
from kvsim.views.plot.chart import decimal, make_figure, name
from kvsim.views.terminal.policies import measured
from kvsim.views.terminal.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS = {"reference": ("#E0E0E0", ""), "lossless": ("#00A878", "\\\\\\\\"), "lossy": ("#E69F00", "//")}  # color, hatch


def draw_comparison(comparison: PolicyComparison, say: Say) -> "Figure":
    """Two bars for each cache, the reference first: bytes held at the end, and the mean KL divergence."""
    runs = [comparison.reference, *comparison.runs]
    kinds = ["reference", *("lossless" if run.lossless else "lossy" for run in comparison.runs)]
    figure = make_figure(width=11.0, height=1.9 + 0.42 * len(runs))
    left, right = figure.subplots(1, 2, sharey=True)
    held = [run.logical_bytes for run in runs]
    _draw_bars(left, held, kinds, [number(size) for size in held], say)
    far = [comparison.all_of(run).mean_divergence for run in comparison.runs]
    _draw_bars(right, [0.0, *far], kinds, ["", *map(measured, far)], say)
    left.set_yticks(range(len(runs)), [name(run.cache) for run in runs])
    left.invert_yaxis()
    left.xaxis.set_major_formatter(lambda value, _: decimal(value))
    left.set_title(say("held, B"))
    right.set_title(say("mean KL(reference || cache) of the next token, nats"))
    tokens = say("tokens: {n}").format(n=number(len(comparison.prompt) + len(comparison.new) - 1))
    title = say(", ").join([name(comparison.model["name"]), comparison.dtype, tokens])
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_bars(axes: "Axes", values: list[int] | list[float], kinds: list[str], texts: list[str], say: Say) -> None:
    """A bar a cache, by kind in color and hatch, with its number at its end."""
    names = {"reference": say("reference"), "lossless": say("lossless"), "lossy": say("lossy")}
    bars = axes.barh(
        range(len(values)), values, height=0.66, color=[_KINDS[kind][0] for kind in kinds], edgecolor="#333333",
        hatch=[_KINDS[kind][1] for kind in kinds],
        label=[names[kind] if kinds.index(kind) == i else "" for i, kind in enumerate(kinds)],
    )  # fmt: skip
    axes.bar_label(bars, texts, padding=4, fontsize=9.0)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.25 * max(values) or 1)  # the numbers need room
    axes.locator_params(axis="x", nbins=5)
