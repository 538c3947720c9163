"""One step drawn cell by cell: which scores, keys and values each run computes, masks, or reads from the cache."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from kvsim.comparisons.cells import NEW_KEY, NEW_VALUE, Cells, find_cells, find_step
from kvsim.comparisons.trace_record import Trace, TraceStep
from kvsim.i18n.language import Say, plain
from kvsim.i18n.wrapping import wrap
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Drawing, Part
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import number, pad
from kvsim.views.terminal.tokens import StepTokens, read_step

_MAX_TOKENS = 24  # a longer text is drawn from its last 24 tokens
_NAME_WIDTH = 8  # terminal cells of a token's text
_INK = "#000000"
_STYLES = {"x": "#C8609A", "c": "#E0E0E0", "K": "#E69F00", "V": "#00A878"}  # as on the page, with black letters
_GAP = 5  # terminal cells between the two halves


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

    def score_lines(self, cells: Cells) -> list[Text]:
        """The rows of QKᵀ, those that are not computed empty."""
        lines = [self.line("")] * (max(cells.first_row, self.skipped) - self.skipped)
        for query, marks in enumerate(cells.scores, cells.first_row):
            if query >= self.skipped:
                lines.append(self.line(self.names[query - self.skipped], marks[self.skipped :]))
        return lines


def _beside(left: Text, right: Text, width: int) -> Text:
    """`left` filled to `width` terminal cells, then `right`."""
    line = left.copy()
    line.append(" " * (width - cell_len(left.plain)))
    line.append_text(right)
    return line


def _keys(grid: _Grid, cells: Cells, letter: str, label: str, say: Say) -> Text:
    """The line of keys (K) or values (V) of one half."""
    marks = cells.keys if letter == NEW_KEY else cells.values
    note = "  " + say("rows computed: {n}").format(n=marks.count(letter))
    return grid.line(label, marks[grid.skipped :]).append(note)


def _one_row(sides: tuple[Cells, Cells]) -> bool:
    """Is it a cached step of one token, and one of several without a cache?"""
    return sides[0].first_row < sides[1].first_row == len(sides[1].keys) - 1


def _needed(row: Text, say: Say) -> Text:
    """The last row of the uncached scores, where a cached step computes no other."""
    return row.copy().append(" " + say("← only this row is needed"))


def _halves(grid: _Grid, sides: tuple[Cells, Cells], say: Say) -> tuple[int, list[Text]]:
    """The width of the left half with its gap, and the lines of both halves: scores, then K, then V."""
    left, right = (grid.score_lines(cells) for cells in sides)
    room = grid.size() + _GAP
    if _one_row(sides):
        left[-1] = _needed(left[-1], say)
        room = max(room, cell_len(left[-1].plain) + _GAP // 2)
    for letter in (NEW_KEY, NEW_VALUE):
        left.append(_keys(grid, sides[0], letter, letter, say))
        right.append(_keys(grid, sides[1], letter, "", say))
        room = max(room, cell_len(left[-1].plain) + _GAP // 2)
    return room, [_beside(one, other, room) for one, other in zip(left, right, strict=True)]


def _title(step: TraceStep, n_steps: int, tokens: StepTokens, say: Say) -> str:
    """Which step this is, the tokens that it is fed and that it chooses, and what the marks mean."""
    title = say("step {number}/{last}  fed {fed}, output {next}").format(
        number=step.number,
        last=n_steps,
        fed=tokens.fed,
        next=tokens.next,
    )
    return title + "   " + say("# computed  x masked  c cached  K new K  V new V")


def _size(cells: Cells, times: str) -> str:
    """Rows × columns of QKᵀ, and their product."""
    rows, columns = cells.size
    return f"{rows}{times}{columns} = {number(rows * columns)}"


class _Picture(NamedTuple):
    """One step, ready to be drawn in any width."""

    sides: tuple[Cells, Cells]
    names: list[str]  # of all tokens read so far
    ascii_only: bool
    say: Say

    @property
    def corner(self) -> str:
        """The name of the scores."""
        return "QK^T" if self.ascii_only else "QKᵀ"

    def grid(self, most: int) -> _Grid:
        """The grid of the last `most` tokens."""
        skipped = max(0, len(self.names) - most)
        names = self.names[skipped:]
        return _Grid(names, skipped, label_width=2 + max(cell_len(name) for name in [self.corner, *names]))

    def heading(self, grid: _Grid, half: int) -> Text:
        """What one half shows."""
        text = self.say("cached  {size}") if half else self.say("no cache  {size}")
        return grid.line("").append(text.format(size=_size(self.sides[half], "x" if self.ascii_only else "×")))

    def beside(self) -> list[Text]:
        """Both halves beside each other."""
        grid = self.grid(_MAX_TOKENS)
        room, lines = _halves(grid, self.sides, self.say)
        return [
            _beside(self.heading(grid, 0), self.heading(grid, 1), room),
            _beside(grid.line(self.corner, grid.names), grid.line("", grid.names), room),
            *lines,
        ]

    def below(self, most: int, width: int | None) -> list[Text]:
        """The last `most` tokens, the half with the cache below the other."""
        grid, drawn = self.grid(most), []
        for half, cells in enumerate(self.sides):
            lines = grid.score_lines(cells)
            if half:
                lines = [line for line in lines if line.plain.strip()]
            elif _one_row(self.sides) and _fits([marked := _needed(lines[-1], self.say)], width):
                lines[-1] = marked
            drawn += [self.heading(grid, half), grid.line(self.corner, grid.names), *lines]
            drawn += [_keys(grid, cells, letter, letter, self.say) for letter in (NEW_KEY, NEW_VALUE)]
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
    tokens = read_step(trace, step, ascii_only)
    names = [pad(name, min(cell_len(name), _NAME_WIDTH)) for name in tokens.names]
    sides = find_cells(trace, step, step.no_cache), find_cells(trace, step, step.cached)
    picture = _Picture(sides, names, ascii_only, say)
    title = _title(step, len(trace.steps), tokens, say)
    return [Drawing(partial(_draw, picture, title)), *tokens.reader.notes(say)]


def format_cells(trace: Trace, say: Say, step_number: int | None = None, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim trace --show cells`. UsageError: there is no step `step_number`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(cells_parts(trace, say, step_number, screen.ascii_only), say, screen)
