"""One step drawn cell by cell: which scores, keys and values each run computes, masks, or reads from the cache."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import show_token
from kvsim.i18n.wrapping import wrap
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Drawing, Part
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import number, pad
from kvsim.views.terminal.tokens import Reader

_MAX_TOKENS = 24  # a longer text is drawn from its last 24 tokens
_NAME_WIDTH = 8  # terminal cells of a token's text
_INK = "#000000"
_STYLES = {"x": "#C8609A", "c": "#E0E0E0", "K": "#E69F00", "V": "#00A878"}  # as on the page, with black letters
_GAP = 5  # terminal cells between the two halves


def find_step(trace: Trace, number: int | None) -> TraceStep:
    """Step `number` of the trace, counted from 1; the last one by default. UsageError: there is no such step."""
    if number is None:
        return trace.steps[-1]
    if not 1 <= number <= len(trace.steps):
        raise UsageError(
            "there is no step {number}: this trace has steps 1 to {last}", number=number, last=len(trace.steps)
        )
    return trace.steps[number - 1]


def _rows_computed(side: Side, kind: str) -> int:
    """Rows of "query", "key" or "value" that the step projected in layer 0."""
    return next(event.m for event in side.events if event.site == f"layers.0.{kind}")


class _Grid:
    """One half of the drawing: a column for each token, as wide as the widest token."""

    def __init__(self, names: list[str], skipped: int, label_width: int) -> None:
        self.names, self.skipped, self.label_width = names, skipped, label_width
        self.width = max(2, *(cell_len(name) for name in names)) + 1

    def line(self, label: str, marks: Sequence[str] = ()) -> Text:
        """The label, then one mark a token in its color."""
        text = Text("  " + pad(label, self.label_width))
        for mark in marks:
            color = _STYLES.get(mark)
            text.append(pad(mark, self.width), Style(color=_INK, bgcolor=color) if color else None)
        return text

    def size(self) -> int:
        """Terminal cells of a whole line."""
        return 2 + self.label_width + self.width * len(self.names)

    def score_lines(self, first_row: int) -> list[Text]:
        """Rows of QKᵀ from `first_row` on: # where the key is not after the query, x where it is masked."""
        last = self.skipped + len(self.names)
        lines = [self.line("")] * (max(first_row, self.skipped) - self.skipped)
        for query in range(max(first_row, self.skipped), last):
            marks = ["#" if key <= query else "x" for key in range(self.skipped, last)]
            lines.append(self.line(self.names[query - self.skipped], marks))
        return lines

    def key_marks(self, letter: str, computed: int) -> list[str]:
        """The rows of K or V: `letter` for the last `computed` ones, c for those read from the cache."""
        last = self.skipped + len(self.names)
        return ["c" if key < last - computed else letter for key in range(self.skipped, last)]


def _beside(left: Text, right: Text, width: int) -> Text:
    """`left` filled to `width` terminal cells, then `right`."""
    line = left.copy()
    line.append(" " * (width - cell_len(left.plain)))
    line.append_text(right)
    return line


def _keys(grid: _Grid, side: Side, letter: str, label: str, say: Say) -> Text:
    """The line of keys (K) or values (V) of one half."""
    computed = _rows_computed(side, "key" if letter == "K" else "value")
    note = "  " + say("rows computed: {n}").format(n=computed)
    return grid.line(label, grid.key_marks(letter, computed)).append(note)


def _needed(row: Text, say: Say) -> Text:
    """The last row of the uncached scores, where a cached step computes no other."""
    return row.copy().append(" " + say("← only this row is needed"))


def _halves(grid: _Grid, sides: tuple[Side, Side], n_tokens: int, say: Say) -> tuple[int, list[Text]]:
    """The width of the left half with its gap, and the lines of both halves: scores, then K, then V."""
    first_rows = [n_tokens - _rows_computed(side, "query") for side in sides]
    left, right = (grid.score_lines(first) for first in first_rows)
    room = grid.size() + _GAP
    if first_rows[0] < first_rows[1] == n_tokens - 1:  # a cached step of one token
        left[-1] = _needed(left[-1], say)
        room = max(room, cell_len(left[-1].plain) + _GAP // 2)
    for letter in ("K", "V"):
        left.append(_keys(grid, sides[0], letter, letter, say))
        right.append(_keys(grid, sides[1], letter, "", say))
        room = max(room, cell_len(left[-1].plain) + _GAP // 2)
    return room, [_beside(one, other, room) for one, other in zip(left, right, strict=True)]


def _title(step: TraceStep, n_steps: int, tokens: tuple[str, str], say: Say) -> str:
    """Which step this is, the tokens that it is fed and that it chooses, and what the marks mean."""
    title = say("step {number}/{last}  fed {fed}, output {next}").format(
        number=step.number,
        last=n_steps,
        fed=tokens[0],
        next=tokens[1],
    )
    return title + "   " + say("# computed  x masked  c cached  K new K  V new V")


def _size(side: Side, times: str) -> str:
    """Rows × columns of QKᵀ in layer 0, and their product."""
    event = next(e for e in side.events if e.site == "layers.0.scores")
    return f"{event.m}{times}{event.n} = {number(side.counts.score_cells)}"


class _Picture(NamedTuple):
    """One step, ready to be drawn in any width."""

    step: TraceStep
    names: list[str]  # of all tokens read so far
    sizes: tuple[str, str]  # "rows×columns = cells" of both halves
    corner: str
    say: Say

    def grid(self, most: int) -> _Grid:
        """The grid of the last `most` tokens."""
        skipped = max(0, len(self.names) - most)
        names = self.names[skipped:]
        return _Grid(names, skipped, label_width=2 + max(cell_len(name) for name in [self.corner, *names]))

    def heading(self, grid: _Grid, half: int) -> Text:
        """What one half shows."""
        text = (self.say("cached  {size}") if half else self.say("no cache  {size}")).format(size=self.sizes[half])
        return grid.line("").append(text)

    def beside(self) -> list[Text]:
        """Both halves beside each other."""
        grid, n = self.grid(_MAX_TOKENS), len(self.names)
        room, lines = _halves(grid, (self.step.no_cache, self.step.cached), n, self.say)
        return [
            _beside(self.heading(grid, 0), self.heading(grid, 1), room),
            _beside(grid.line(self.corner, grid.names), grid.line("", grid.names), room),
            *lines,
        ]

    def below(self, most: int, width: int | None) -> list[Text]:
        """The last `most` tokens, the half with the cache below the other."""
        grid, n, sides = self.grid(most), len(self.names), (self.step.no_cache, self.step.cached)
        first_rows = [n - _rows_computed(side, "query") for side in sides]
        drawn = []
        for half, side in enumerate(sides):
            lines = grid.score_lines(first_rows[half])
            if half:
                lines = [line for line in lines if line.plain.strip()]
            elif first_rows[0] < first_rows[1] == n - 1 and _fits([marked := _needed(lines[-1], self.say)], width):
                lines[-1] = marked
            drawn += [self.heading(grid, half), grid.line(self.corner, grid.names), *lines]
            drawn += [_keys(grid, side, letter, letter, self.say) for letter in ("K", "V")]
        return drawn


def _fits(lines: list[Text], width: int | None) -> bool:
    return width is None or all(cell_len(line.plain) <= width for line in lines)


def _draw(picture: _Picture, title: str, width: int | None) -> Text:
    """Both halves beside each other; in a narrower terminal the second below the first; there, in one narrower still,
    as many of the last tokens as fit."""
    most = min(len(picture.names), _MAX_TOKENS)
    lines = picture.beside()
    if not _fits(lines, width):
        lines = picture.below(most, width)
        while not _fits(lines, width) and most > 1:
            most -= 1
            lines = picture.below(most, width)
    drawn = [Text(line) for line in wrap(title, width)] + [_cut(line, width) for line in lines]
    if most < len(picture.names):
        note = picture.say("({n} earlier tokens not drawn)").format(n=len(picture.names) - most)
        drawn += [Text(line) for line in wrap(note, width)]
    return Text("\n").join(drawn)


def _cut(line: Text, width: int | None) -> Text:
    """The line, without its end where even one token is too wide."""
    if width is not None and not _fits([line], width):
        line = line.copy()
        line.truncate(width)
    return line


def cells_parts(trace: Trace, say: Say, step_number: int | None = None, ascii_only: bool = False) -> list[Part]:
    """The scores, keys and values of one step, without a cache and with it. UsageError: there is no such step."""
    step = find_step(trace, step_number)
    reader = Reader(ascii_only)
    names, start = [], 0
    for each in trace.steps[: step.number]:
        start = len(reader.text)
        names += [reader.read(piece.text) for piece in each.fed]
    fed = reader.so_far(start)
    names = [pad(name, min(cell_len(name), _NAME_WIDTH)) for name in names]
    times = "x" if ascii_only else "×"
    sizes = _size(step.no_cache, times), _size(step.cached, times)
    picture = _Picture(step, names, sizes, "QK^T" if ascii_only else "QKᵀ", say)
    tokens = fed if fed.strip() else show_token(fed, ascii_only), reader.look(step.next.text)
    title = _title(step, len(trace.steps), tokens, say)
    return [Drawing(partial(_draw, picture, title)), *reader.notes(say)]


def format_cells(trace: Trace, say: Say, step_number: int | None = None, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim trace --show cells`. UsageError: there is no step `step_number`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(cells_parts(trace, say, step_number, screen.ascii_only), say, screen)
