"""What all charts share: their looks, the font of their labels, and the bytes of a file. Needs matplotlib (the extra
plot), which is imported when a chart is made."""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kvsim.errors import BackendError, shortened
from kvsim.i18n.language import Say, language_of, words
from kvsim.i18n.printable import printable
from kvsim.views.terminal.text import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lines differ in dashes and markers too, so that no color is needed to tell them apart.
STYLES: dict[str, dict[str, Any]] = {
    "cached": {"color": "#007A59", "marker": "o"},
    "uncached": {"color": "#B0437F", "marker": "s", "linestyle": (0, (5, 2))},
    "peer": {"color": "#4D4D4D", "marker": "^", "linestyle": (0, (1, 1.5))},
}
_CHINESE = (  # families with Simplified Chinese, by preference; older matplotlib reads a collection's first, JP
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC", "Hiragino Sans GB",
    "Microsoft YaHei", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei", "Heiti SC", "STHeiti",
    "Heiti TC", "Arial Unicode MS", "Droid Sans Fallback", "Noto Serif CJK SC", "Noto Serif CJK JP", "SimSun", "STSong",
)  # fmt: skip
_LOOKS: dict[str, Any] = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.titlelocation": "left", "axes.titlesize": 12.0, "axes.unicode_minus": False, "grid.color": "#DDDDDD",
    "font.size": 11.0, "lines.linewidth": 2.0, "lines.markersize": 6.0, "legend.frameon": False,
    "figure.facecolor": "white", "savefig.dpi": 200, "svg.fonttype": "none", "svg.hashsalt": "kvsim",
    "text.parse_math": False, "figure.constrained_layout.h_pad": 0.14, "figure.constrained_layout.w_pad": 0.16,
}  # fmt: skip
# What a file would say of the moment and the version that made it, left out so that equal charts are equal files.
_METADATA: dict[str, dict[str, None]] = {
    ".svg": {"Date": None, "Creator": None}, ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip


class Rendered(NamedTuple):
    """A chart as a file, and notes on it."""

    data: bytes
    notes: list[str]


def import_matplotlib() -> None:
    """BackendError: matplotlib is not installed, or does not work."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise BackendError(
            '--plot FILE needs matplotlib: pip install ".[plot]" in a clone of kvsim ({error})', error=shortened(error)
        ) from error


@cache
def find_chinese_font() -> str | None:
    """The family of an installed font with Chinese characters, or None."""
    from matplotlib.font_manager import fontManager

    known = {entry.name for entry in fontManager.ttflist}
    return next((family for family in _CHINESE if family in known), None)


@contextmanager
def set_looks() -> Iterator[None]:
    """matplotlib with kvsim's looks, whatever the user's matplotlibrc says; restored at the end."""
    import matplotlib
    from matplotlib import style

    font = find_chinese_font()
    families = ["DejaVu Sans", *([font] if font else [])]  # a character comes from the first that has it
    looks: Any = {**_LOOKS, "font.family": families}
    with style.context("default", after_reset=True), matplotlib.rc_context(looks):
        yield


def render(draw: Callable[[Say], "Figure"], ending: str, say: Say) -> Rendered:
    """The figure that `draw` makes, with labels by the function that it is given, as a file: .svg, .png or .pdf. Labels
    are English where no font has Chinese characters, and a note says so."""
    notes = []
    if language_of(say) == "zh" and find_chinese_font() is None:
        notes.append(say("note: no font with Chinese characters is installed: the labels of the chart are English"))
        labels = words("en")
    else:
        labels = say
    file = io.BytesIO()
    with set_looks(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw(labels).savefig(file, format=ending[1:], metadata=_METADATA[ending])
    lost = sorted({found[1] for warning in caught if (found := re.match(r"Glyph (\d+) ", str(warning.message)))})
    if lost and ending != ".svg":  # in an SVG the reader's own fonts have their turn
        text = say("note: no installed font has these characters, drawn as boxes: {characters}")
        notes.append(text.format(characters=" ".join(f"U+{int(code):04X}" for code in lost)))
    return Rendered(file.getvalue(), notes)


def make_figure(width: float = 8.0, height: float = 4.5) -> "Figure":
    """A figure of that size in inches, without a window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def name(text: str) -> str:
    """A model's name or the like as part of a label: printable, and not too long."""
    return cut(printable(text), 48)


def in_powers(value: float, units: Sequence[str], base: int) -> str:
    """`value` in the largest unit that leaves at least 1, with three digits: 1.5e9 -> "1.5 G" by base 1000."""
    step = 0
    while value >= base and step < len(units) - 1:
        value, step = value / base, step + 1
    return f"{value:.3g} {units[step]}".rstrip() if value < 10_000 else f"{value:.1e} {units[step]}"


def decimal(value: float) -> str:
    """A number with a decimal prefix: "1.5 G"."""
    return in_powers(value, ("", "k", "M", "G", "T", "P", "E", "Z", "Y"), 1000)


def binary(value: float) -> str:
    """Bytes with a binary prefix: "1.5 GiB"."""
    return in_powers(value, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), 1024)


def set_scale(axes: "Axes", which: Literal["x", "y"], values: Iterable[float], base: int) -> None:
    """A logarithmic axis over the positive `values`, with about eight ticks at most, at powers of `base`."""
    from matplotlib.ticker import FixedLocator, NullLocator

    found = list(values)
    first, last = math.floor(math.log(min(found), base)), math.ceil(math.log(max(found), base))
    stride = max(1, math.ceil((last - first) / 8))
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator([float(base) ** exponent for exponent in range(first, last + 1, stride)]))
    axis.set_minor_locator(NullLocator())
