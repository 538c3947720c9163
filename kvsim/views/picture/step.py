"""One step as SVG: QKᵀ as a square, K and V as rows under its columns, without a cache on the left, with one on the
right, and the counts below."""

from typing import NamedTuple

from kvsim.comparisons.cells import ABSENT, Cells, find_cells
from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.i18n.language import Say
from kvsim.views.picture.cells import draw_cells, place_row
from kvsim.views.picture.elements import Drawing, fill_in, mark_text, measure, write
from kvsim.views.terminal.text import cut, number
from kvsim.views.terminal.tokens import read_step

_NAME = 8  # terminal cells of a token's name
_FED = 24  # terminal cells of the tokens in a title


class Sizes(NamedTuple):
    """Pixels."""

    cell: int
    font: int
    title: int
    gap: int  # between the halves
    tokens: int  # at most, not pixels: a longer text is drawn from its last ones, as on the terminal

    @property
    def line(self) -> float:
        """The height of a line of text."""
        return 1.45 * self.font


LARGE = Sizes(cell=34, font=15, title=20, gap=40, tokens=24)  # a step alone
SMALL = Sizes(cell=20, font=12, title=15, gap=22, tokens=16)  # one of several


class Names(NamedTuple):
    """The tokens that are drawn, and the room that their names take."""

    texts: list[str]
    skipped: int  # earlier tokens
    label: float  # the width of the names of rows
    head: float  # the height of the names of columns
    slanted: bool  # names of columns that are wider than a cell
    over: float  # pixels that they extend beyond the last column


def read_names(trace: Trace, step: TraceStep, sizes: Sizes) -> Names:
    """The last of the tokens fed up to this step."""
    read = read_step(trace, step).names
    skipped = max(0, len(read) - sizes.tokens)
    texts = [cut(name, _NAME) for name in read[skipped:]]
    widest = max(measure(text, sizes.font) for text in texts)
    slanted = widest > sizes.cell
    slope = 0.71 * widest  # of a name at 45 degrees
    label = max(widest, measure("QKᵀ", sizes.font)) + 8
    head = slope + 0.5 * sizes.font if slanted else 1.3 * sizes.font
    return Names(texts, skipped, label, head, slanted, max(0.0, slope - sizes.cell / 2) if slanted else 0.0)


def _draw_heads(names: Names, x: float, y: float, sizes: Sizes) -> list[str]:
    """The names of the columns that begin at x, with their baseline at y."""
    elements = []
    for i, text in enumerate(names.texts):
        at = x + sizes.cell * (i + 0.5)
        if names.slanted:
            turned = f' transform="rotate(-45 {at:g} {y:g})"'
            elements.append(write(at, y, mark_text(text), sizes.font, more=turned))
        else:
            elements.append(write(at, y, mark_text(text), sizes.font, "middle"))
    return elements


def _draw_grid(cells: Cells, names: Names, needed: int, sizes: Sizes) -> Drawing:
    """The square, the rows of K and V, and their names. Query rows from `needed` on are outlined: only these choose the
    next tokens."""
    side, n, left = sizes.cell, len(names.texts), names.label
    tokens = names.skipped + n
    placed, elements = [], _draw_heads(names, left, names.head - 0.35 * sizes.font, sizes)
    elements.append(write(left - 8, names.head - 0.35 * sizes.font, mark_text("QKᵀ"), sizes.font, "end"))
    for row in range(n):
        query, y = names.skipped + row, names.head + side * row
        computed = query >= cells.first_row
        states = cells.scores[query - cells.first_row] if computed else ABSENT * tokens
        placed += place_row(left, y, states[names.skipped :], side)
        if computed:
            base = y + side / 2 + 0.36 * sizes.font
            elements.append(write(left - 8, base, mark_text(names.texts[row]), sizes.font, "end"))
    y = names.head + side * n
    for letter, states in (("K", cells.keys), ("V", cells.values)):
        y += side / 3
        placed += place_row(left, y, states[names.skipped :], side)
        elements.append(write(left - 8, y + side / 2 + 0.36 * sizes.font, letter, sizes.font, "end"))
        y += side
    elements += draw_cells(placed, side, 0.9 * sizes.font)
    first = max(0, needed - names.skipped)
    outline = f'x="{left:g}" y="{names.head + side * first:g}" width="{side * n:g}" height="{side * (n - first):g}"'
    elements.append(f'<rect {outline} fill="none" stroke="#000" stroke-width="2.5"/>')
    return Drawing(left + side * n + names.over, y, elements)


def count_lines(cells: Cells, side: Side, say: Say) -> list[str]:
    """What a run computed in the step and holds after it."""
    rows, columns = cells.size
    size = f"{rows}×{columns} = {number(rows * columns)}"
    return [
        say("score cells: {size}").format(size=size),
        say("Q, K, V rows: {n}").format(n=number(side.counts.projected_rows)),
        say("KV cache: {bytes} B").format(bytes=number(side.kv_bytes)),
    ]


def _draw_side(heading: str, grid: Drawing, lines: list[str], left: float, sizes: Sizes) -> Drawing:
    """One half: its heading, the grid, the counts."""
    top = 1.6 * sizes.font
    heading_at = write(left, sizes.font, mark_text(heading), sizes.font, more=' font-weight="bold"')
    elements = [heading_at, grid.moved(0, top)]
    y = top + grid.height + 0.5 * sizes.line
    for i, line in enumerate(lines):
        y += sizes.line
        weight = "" if i else ' font-weight="bold"'
        elements.append(write(left, y, mark_text(line), sizes.font, more=weight))
    widest = max(measure(text, sizes.font) for text in (heading, *lines))
    return Drawing(max(grid.width, left + widest), y + 0.4 * sizes.font, elements)


def say_title(trace: Trace, step: TraceStep, say: Say) -> tuple[str, dict[str, object]]:
    """Which step it is: a sentence and its values."""
    tokens = read_step(trace, step)
    values: dict[str, object] = {
        "number": step.number,
        "last": len(trace.steps),
        "fed": cut(tokens.fed[: 4 * _FED], _FED),
        "next": cut(tokens.next[: 4 * _FED], _FED),
    }
    return say("step {number}/{last}  fed {fed}, output {next}"), values


def draw_panel(trace: Trace, step: TraceStep, sizes: Sizes, say: Say) -> Drawing:
    """The drawing of one step, with its title."""
    names = read_names(trace, step, sizes)
    runs = [(say("no cache"), step.no_cache), (say("cached"), step.cached)]
    found = [find_cells(trace, step, side) for _, side in runs]
    sentence, values = say_title(trace, step, say)
    head, _, rest = fill_in(sentence, **values).partition("  ")
    title = f'<tspan font-weight="bold">{head}</tspan><tspan dx="0.7em">{rest}</tspan>'
    elements = [write(0, sizes.title, title, sizes.title)]
    top, x, height = 1.8 * sizes.title, 0.0, 0.0
    for (heading, side), cells in zip(runs, found, strict=True):
        grid = _draw_grid(cells, names, found[1].first_row, sizes)
        half = _draw_side(heading, grid, count_lines(cells, side, say), names.label, sizes)
        elements.append(half.moved(x, top))
        x, height = x + half.width + sizes.gap, max(height, half.height)
    height += top
    if names.skipped:
        height += sizes.line
        note = say("({n} earlier tokens not drawn)").format(n=number(names.skipped))
        elements.append(write(names.label, height - 0.4 * sizes.font, mark_text(note), sizes.font))
    return Drawing(max(x - sizes.gap, measure(sentence.format(**values), sizes.title)), height, elements)
