"""The main table of `kvsim trace`: one row a step, without a cache and with it."""

from rich.table import Table
from rich.text import Text

from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_record import Trace
from kvsim.counting.events import COUNTS
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import printable, show_end, show_token
from kvsim.views.terminal.table import Column, make_table, render, shown_steps
from kvsim.views.terminal.text import cut, number, percent_saved, tail
from kvsim.views.terminal.trace_notes import UNITS, footnotes, headline

_OUTPUT_WIDTH = 12  # cells of the next token
_SEQUENCE_WIDTH = 30  # cells of the growing text that a row shows


def column_names(count: str, say: Say) -> tuple[str, str, str]:
    """Headings of the last three counts: without a cache, with it, and the unit that is not counted."""
    rows, cells = say("QKV rows"), say("cells no/yes")
    return {
        "cells": (say("no cache Q×K"), say("cached q×K"), rows),
        "useful": (say("no cache, useful cells"), say("cached, useful cells"), rows),
        "rows": (say("no cache, projected rows"), say("cached, projected rows"), cells),
        "macs": (say("no cache, MACs"), say("cached, MACs"), rows),
        "flops": (say("no cache, FLOPs"), say("cached, FLOPs"), rows),
    }[count]


def _cells(trace: Trace, count: str, cached: bool, times: str) -> list[str]:
    """The numbers of one column; score cells as "rows×columns = cells", aligned at the equals sign."""
    sides = [step.cached if cached else step.no_cache for step in trace.steps]
    values = [number(UNITS[count](side.counts)) for side in sides]
    if count != "cells":
        return values
    widest = max(map(len, values))
    shapes = [next((e.m, e.n) for e in side.events if e.site == "layers.0.scores") for side in sides]
    return [f"{m}{times}{n} = {value:>{widest}}" for (m, n), value in zip(shapes, values, strict=True)]


def _other(counts: tuple[Counts, Counts], count: str) -> str:
    """The last column, "without / with": projected rows, or score cells if rows are counted already."""
    unit = UNITS["cells" if count == "rows" else "rows"]
    return " / ".join(number(unit(side)) for side in counts)


def step_table(trace: Trace, say: Say, count: str, rows: int | None, ascii_only: bool) -> Table:
    """One row a step, and the totals of all steps, including those not shown."""
    no_cache, cached, other = column_names(count, say)
    totals = trace.totals
    before, after = UNITS[count](totals.no_cache), UNITS[count](totals.cached)
    columns: list[Column] = [
        (say("step"), "", "right"),
        (say("sequence"), say("total"), "left"),
        (say("next"), "", "left"),
        (no_cache, number(before), "right"),
        (cached, number(after), "right"),
        (say("saved"), percent_saved(before, after), "right"),
        (other, _other(totals, count), "right"),
    ]
    table = make_table(columns, ascii_only)
    head, end = shown_steps(len(trace.steps), rows)
    times = "x" if ascii_only else "×"
    cells = [_cells(trace, count, cached, times) for cached in (False, True)]
    text = ""
    for i, step in enumerate(trace.steps):
        text += printable("".join(piece.text for piece in step.fed), ascii_only)
        if i in head or i in end:
            counts = (step.no_cache.counts, step.cached.counts)
            table.add_row(
                str(step.number),
                Text(tail(show_end(text, ascii_only), _SEQUENCE_WIDTH, ascii_only)),
                Text(cut(show_token(step.next.text, ascii_only), _OUTPUT_WIDTH)),
                cells[0][i],
                cells[1][i],
                percent_saved(*map(UNITS[count], counts)),
                _other(counts, count),
            )
        elif i == head.stop:
            hidden = len(trace.steps) - len(head) - len(end)
            table.add_row("..." if ascii_only else "…", say("({n} steps not shown)").format(n=hidden))
    return table


def format_trace(trace: Trace, say: Say, count: str = "cells", rows: int | None = 40, ascii_only: bool = False,
                 color: bool = False, explained: bool = False) -> str:  # fmt: skip
    """The output of `kvsim trace`: headline, table of at most `rows` steps, footnotes.

    `explained`: with a footnote on where a difference of the logits comes from. UsageError: an unknown `count`.
    """
    if count not in COUNTS:
        raise UsageError("unknown count {count}: use one of {known}", count=repr(count), known=", ".join(COUNTS))
    say = plain(say) if ascii_only else say
    table = render(step_table(trace, say, count, rows, ascii_only), color)
    return "\n".join([headline(trace, say), table, *footnotes(trace, say, count, explained)])
