"""One step drawn cell by cell: which scores each run computes, masks, or finds in the cache."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import named
from kvsim.views.terminal.text import number, pad
from kvsim.views.terminal.trace import render

_MOST = 24  # tokens drawn of a long text: the last ones
_WIDEST = 8  # cells of a token's name
_STYLES = {"#": "yellow", "x": "bright_black", "c": "bright_black", "K": "green", "V": "magenta"}
_GAP = 5


def find_step(trace: Trace, number: int | None) -> TraceStep:
    """Step `number` of the trace; the last one by default."""
    if number is None:
        return trace.steps[-1]
    if not 1 <= number <= len(trace.steps):
        raise UsageError(
            "there is no step {number}: this trace has steps 1 to {last}", number=number, last=len(trace.steps)
        )
    return trace.steps[number - 1]


def _rows_computed(side: Side, kind: str) -> int:
    return next(event.m for event in side.events if event.site == f"layers.0.{kind}")


class _Grid:
    """One side of the picture: a column for each token, as wide as the widest name."""

    def __init__(self, names: list[str], skipped: int, label_width: int) -> None:
        self.names, self.skipped, self.label_width = names, skipped, label_width
        self.width = max(2, *(cell_len(name) for name in names)) + 1

    def line(self, label: str, marks: Sequence[str] = ()) -> Text:
        text = Text("  " + pad(label, self.label_width))
        for mark in marks:
            color = _STYLES.get(mark)
            text.append(pad(mark, self.width), Style(color=color) if color else None)
        return text

    def size(self) -> int:
        return 2 + self.label_width + self.width * len(self.names)

    def score_lines(self, first_row: int) -> list[Text]:
        """Rows first_row.. of QKᵀ: # where the key is not after the query, x where the mask hides it."""
        last = self.skipped + len(self.names)
        lines = [self.line("")] * (max(first_row, self.skipped) - self.skipped)
        for query in range(max(first_row, self.skipped), last):
            marks = ["#" if key <= query else "x" for key in range(self.skipped, last)]
            lines.append(self.line(self.names[query - self.skipped], marks))
        return lines

    def key_marks(self, letter: str, computed: int) -> list[str]:
        """The rows of K or V: its letter where this step computed them, c where the cache had them."""
        last = self.skipped + len(self.names)
        return ["c" if key < last - computed else letter for key in range(self.skipped, last)]


def _beside(left: Text, right: Text, width: int) -> Text:
    line = left.copy()
    line.append(" " * (width - cell_len(left.plain)))
    line.append_text(right)
    return line


def tell_cells(
    trace: Trace, say: Say, step_number: int | None = None, ascii_only: bool = False, color: bool = False
) -> str:
    """The scores, keys and values of one step, without a cache on the left and with it on the right."""
    say = plain(say) if ascii_only else say
    step = find_step(trace, step_number)
    read = [piece for s in trace.steps[: step.number] for piece in s.fed]
    skipped = max(0, len(read) - _MOST)
    names = [pad(n, min(cell_len(n), _WIDEST)) for n in (named(p.text, ascii_only) for p in read[skipped:])]
    scores_name = "QK^T" if ascii_only else "QKᵀ"
    label = max(cell_len(name) for name in [scores_name, *names]) + 2
    grid = _Grid(names, skipped, label)
    sides = (step.no_cache, step.cached)
    first_rows = [len(read) - _rows_computed(side, "query") for side in sides]
    scores = [grid.score_lines(first) for first in first_rows]
    room = grid.size() + _GAP
    if first_rows[0] < first_rows[1] == len(read) - 1:  # a cached step of one token
        scores[0][-1].append(" " + say("← only this row is of use"))
        room = max(room, cell_len(scores[0][-1].plain) + _GAP // 2)
    for letter, kind in (("K", "key"), ("V", "value")):
        computed = [_rows_computed(side, kind) for side in sides]
        left, right = (
            grid.line(label, grid.key_marks(letter, n)).append("  " + say("rows computed: {n}").format(n=n))
            for label, n in zip((letter, ""), computed, strict=True)
        )
        room = max(room, cell_len(left.plain) + _GAP // 2)
        scores[0].append(left)
        scores[1].append(right)
    lines = [_beside(left, right, room) for left, right in zip(*scores, strict=True)]
    sizes = [_size(side, "x" if ascii_only else "×") for side in sides]
    titles = [say("no cache  {size}").format(size=sizes[0]), say("cached  {size}").format(size=sizes[1])]
    top = say("step {number}/{last}  fed {fed}, output {next}").format(
        number=step.number,
        last=len(trace.steps),
        fed=named("".join(piece.text for piece in step.fed), ascii_only),
        next=named(step.next.text, ascii_only),
    )
    legend = say("# computed  x masked  c cached  K new K  V new V")
    picture = [
        Text(top + "   " + legend),
        _beside(grid.line("").append(titles[0]), grid.line("").append(titles[1]), room),
        _beside(grid.line(scores_name, names), grid.line("", names), room),
        *lines,
    ]
    if skipped:
        picture.append(Text(say("({n} earlier tokens not drawn)").format(n=skipped)))
    return render(Text("\n").join(picture), color)


def _size(side: Side, times: str) -> str:
    event = next(e for e in side.events if e.site == "layers.0.scores")
    return f"{event.m}{times}{event.n} = {number(side.counts.score_cells)}"
