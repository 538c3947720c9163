"""The main table of `kvsim trace`: one row a step, without a cache and with it."""

from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_record import Trace
from kvsim.counting.events import COUNTS
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import show_end
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out, shown_steps
from kvsim.views.terminal.text import cut, number, percent_saved, tail
from kvsim.views.terminal.tokens import Reader
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


def step_sheet(trace: Trace, say: Say, count: str, rows: int | None, reader: Reader) -> Sheet:
    """One row a step, and the totals of all steps, including those not shown. `reader` reads the tokens."""
    ascii_only = reader.ascii_only
    no_cache, cached, other = column_names(count, say)
    totals = trace.totals
    before, after = UNITS[count](totals.no_cache), UNITS[count](totals.cached)
    columns = [
        Column("step", say("step")),
        Column("sequence", say("sequence"), "left", say("total"), bend="tail"),
        Column("next", say("next"), "left"),
        Column("no_cache", no_cache, total=number(before)),
        Column("cached", cached, total=number(after)),
        Column("saved", say("saved"), total=percent_saved(before, after)),
        Column("other", other, total=_other(totals, count)),
    ]
    table = Sheet("trace", columns, totals=True)
    head, end = shown_steps(len(trace.steps), rows)
    times = "x" if ascii_only else "×"
    cells = [_cells(trace, count, cached, times) for cached in (False, True)]
    for i, step in enumerate(trace.steps):
        for piece in step.fed:
            reader.read(piece.text)
        if i in head or i in end:
            counts = (step.no_cache.counts, step.cached.counts)
            table.add(
                str(step.number),
                tail(show_end(reader.so_far(), ascii_only), _SEQUENCE_WIDTH, ascii_only),
                cut(reader.look(step.next.text), _OUTPUT_WIDTH, ascii_only),
                cells[0][i],
                cells[1][i],
                percent_saved(*map(UNITS[count], counts)),
                _other(counts, count),
            )
        elif i == head.stop:
            hidden = len(trace.steps) - len(head) - len(end)
            table.gap = say("({n} steps not shown)").format(n=hidden)
            table.add("..." if ascii_only else "…", table.gap)
    return table


def trace_parts(
    trace: Trace, say: Say, count: str = "cells", rows: int | None = 40, ascii_only: bool = False,
    explained: bool = False,
) -> list[Part]:  # fmt: skip
    """Headline, table of at most `rows` steps, footnotes.

    `explained`: with a footnote on where a difference of the logits comes from. UsageError: an unknown `count`.
    """
    if count not in COUNTS:
        raise UsageError("unknown count {count}: use one of {known}", count=repr(count), known=", ".join(COUNTS))
    reader = Reader(ascii_only)
    table = step_sheet(trace, say, count, rows, reader)
    return [headline(trace, say), table, *reader.notes(say), *footnotes(trace, say, count, explained)]


def format_trace(
    trace: Trace, say: Say, count: str = "cells", rows: int | None = 40, screen: Screen = ANYWHERE,
    explained: bool = False,
) -> str:  # fmt: skip
    """The output of `kvsim trace`: `trace_parts` laid out. UsageError: an unknown `count`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(trace_parts(trace, say, count, rows, screen.ascii_only, explained), say, screen)
