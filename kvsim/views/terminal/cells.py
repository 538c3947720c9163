"""One step drawn cell by cell: which scores, keys and values each run computes, masks, or reads from the cache."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from kvsim.comparisons.cells import NEW_KEY, NEW_VALUE, Cells, find_cells, find_step
from kvsim.comparisons.trace_record import Trace, TraceStep
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import show_token
from kvsim.views.terminal.table import render
from kvsim.views.terminal.text import number, pad

_MAX_TOKENS = 24  # a longer text is drawn from its last 24 tokens
_NAME_WIDTH = 8  # terminal cells of a token's text
_STYLES = {"#": "yellow", "x": "bright_black", "c": "bright_black", "K": "green", "V": "magenta"}
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
            text.append(pad(mark, self.width), Style(color=color) if color else None)
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


def format_cells(
    trace: Trace, say: Say, step_number: int | None = None, ascii_only: bool = False, color: bool = False
) -> str:
    """The scores, keys and values of one step, without a cache on the left and with it on the right.

    UsageError: there is no step `step_number`.
    """
    say = plain(say) if ascii_only else say
    step = find_step(trace, step_number)
    read = [piece for s in trace.steps[: step.number] for piece in s.fed]
    skipped = max(0, len(read) - _MAX_TOKENS)
    names = [pad(n, min(cell_len(n), _NAME_WIDTH)) for n in (show_token(p.text, ascii_only) for p in read[skipped:])]
    corner = "QK^T" if ascii_only else "QKᵀ"
    grid = _Grid(names, skipped, label_width=2 + max(cell_len(name) for name in [corner, *names]))
    sides = (find_cells(trace, step, step.no_cache), find_cells(trace, step, step.cached))
    room, lines = _halves(grid, sides, say)
    sizes = [_size(cells, "x" if ascii_only else "×") for cells in sides]
    left, right = say("no cache  {size}").format(size=sizes[0]), say("cached  {size}").format(size=sizes[1])
    drawn = [
        Text(_title(step, len(trace.steps), say, ascii_only)),
        _beside(grid.line("").append(left), grid.line("").append(right), room),
        _beside(grid.line(corner, names), grid.line("", names), room),
        *lines,
    ]
    if skipped:
        drawn.append(Text(say("({n} earlier tokens not drawn)").format(n=skipped)))
    return render(Text("\n").join(drawn), color)


def _halves(grid: _Grid, sides: tuple[Cells, Cells], say: Say) -> tuple[int, list[Text]]:
    """The width of the left half with its gap, and the lines of both halves: scores, then K, then V."""
    left, right = (grid.score_lines(cells) for cells in sides)
    room = grid.size() + _GAP
    if sides[0].first_row < sides[1].first_row == len(sides[1].keys) - 1:  # a cached step of one token
        left[-1].append(" " + say("← only this row is needed"))
        room = max(room, cell_len(left[-1].plain) + _GAP // 2)
    for letter in (NEW_KEY, NEW_VALUE):
        for lines, cells, label in ((left, sides[0], letter), (right, sides[1], "")):
            marks = cells.keys if letter == NEW_KEY else cells.values
            note = "  " + say("rows computed: {n}").format(n=marks.count(letter))
            lines.append(grid.line(label, marks[grid.skipped :]).append(note))
        room = max(room, cell_len(left[-1].plain) + _GAP // 2)
    return room, [_beside(one, other, room) for one, other in zip(left, right, strict=True)]


def _title(step: TraceStep, n_steps: int, say: Say, ascii_only: bool) -> str:
    """Which step this is, and what the marks mean."""
    title = say("step {number}/{last}  fed {fed}, output {next}").format(
        number=step.number,
        last=n_steps,
        fed=show_token("".join(piece.text for piece in step.fed), ascii_only),
        next=show_token(step.next.text, ascii_only),
    )
    return title + "   " + say("# computed  x masked  c cached  K new K  V new V")


def _size(cells: Cells, times: str) -> str:
    """Rows × columns of QKᵀ, and their product."""
    rows, columns = cells.size
    return f"{rows}{times}{columns} = {number(rows * columns)}"
