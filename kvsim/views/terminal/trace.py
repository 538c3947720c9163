"""The main table of `kvsim trace`, and where text meets the terminal."""

import io
from collections.abc import Callable, Iterable
from typing import Literal

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_record import Trace
from kvsim.counting.events import COUNTS
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import ended, named, printable
from kvsim.views.terminal.text import cut, number, percent_saved, significant, tail

_OUTPUT_WIDTH = 12  # cells of the next token
_SEQUENCE_WIDTH = 30  # cells of the growing text that a row shows
_UNIT: dict[str, Callable[[Counts], int]] = {
    "cells": lambda counts: counts.score_cells,
    "useful": lambda counts: counts.useful_cells,
    "rows": lambda counts: counts.projected_rows,
    "macs": lambda counts: counts.macs,
    "flops": lambda counts: counts.flops,
}


def render(content: RenderableType, color: bool) -> str:
    """What rich makes of `content`, at its own width whatever the terminal's: same bytes everywhere."""
    out = io.StringIO()
    console = Console(
        file=out, width=10_000, force_terminal=color, color_system="standard" if color else None,
        legacy_windows=False, highlight=False, markup=False, emoji=False, _environ={},
    )  # fmt: skip
    console.print(content)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


Column = tuple[str, str, Literal["left", "right"]]  # heading, what stands at its foot, side


def make_table(columns: Iterable[Column], ascii_only: bool, footer: bool = True) -> Table:
    """An empty table; no cell is ever wrapped or cut by the terminal's width."""
    table = Table(box=box.ASCII2 if ascii_only else box.SQUARE, show_footer=footer, safe_box=False)
    for name, foot, side in columns:
        table.add_column(name, foot, justify=side, header_style="bold", footer_style="bold", no_wrap=True)
    return table


def headline(trace: Trace, say: Say) -> str:
    """The model, and how the tokens are fed."""
    model = say("model {name} (layers {layers}, heads {heads} / KV heads {kv_heads}, d_head {d_head})")
    fed, by_character = trace.fed, all(len(piece.text) == 1 for piece in trace.fed)
    if trace.feed == "token":
        one = say("characters fed one by one: {n}") if by_character else say("tokens fed one by one: {n}")
        feed = one.format(n=len(fed))
    elif len(trace.new) == 1:
        whole = say("characters fed: {prompt} of the prompt ({chunks})")
        if not by_character:
            whole = say("tokens fed: {prompt} of the prompt ({chunks})")
        chunks = "+".join(str(len(step.fed)) for step in trace.steps)
        feed = whole.format(prompt=len(trace.prompt), chunks=chunks)
    else:
        sizes = [len(step.fed) for step in trace.steps]
        prompt = sizes[: len(sizes) - len(trace.new) + 1]
        several = say("characters fed: {prompt} of the prompt ({chunks}), then {new} one by one")
        if not by_character:
            several = say("tokens fed: {prompt} of the prompt ({chunks}), then {new} one by one")
        feed = several.format(prompt=len(trace.prompt), chunks="+".join(map(str, prompt)), new=len(trace.new) - 1)
    return printable(model.format(**trace.model)) + "   " + feed


def column_names(count: str, say: Say) -> tuple[str, str, str]:
    """Headings of the columns without a cache, with it, and of the last one."""
    rows, cells = say("QKV rows"), say("cells no/yes")
    return {
        "cells": (say("no cache Q×K"), say("cached q×K"), rows),
        "useful": (say("no cache, useful cells"), say("cached, useful cells"), rows),
        "rows": (say("no cache, projected rows"), say("cached, projected rows"), cells),
        "macs": (say("no cache, MACs"), say("cached, MACs"), rows),
        "flops": (say("no cache, FLOPs"), say("cached, FLOPs"), rows),
    }[count]


def _cells(trace: Trace, count: str, cached: bool, times: str) -> list[str]:
    """A column's numbers, for cells as rows × columns, the products lined up."""
    sides = [step.cached if cached else step.no_cache for step in trace.steps]
    values = [number(_UNIT[count](side.counts)) for side in sides]
    if count != "cells":
        return values
    widest = max(map(len, values))
    shapes = [next((e.m, e.n) for e in side.events if e.site == "layers.0.scores") for side in sides]
    return [f"{m}{times}{n} = {value:>{widest}}" for (m, n), value in zip(shapes, values, strict=True)]


def _other(counts: tuple[Counts, Counts], count: str) -> str:
    """The last column: projected rows, or score cells where rows are what is counted."""
    unit = _UNIT["cells" if count == "rows" else "rows"]
    return " / ".join(number(unit(side)) for side in counts)


def shown_steps(n_steps: int, rows: int | None) -> tuple[range, range]:
    """The steps at the start and at the end that `rows` table rows show: all of them if they fit."""
    if rows is None or n_steps <= rows:
        return range(n_steps), range(0)
    first = (rows + 1) // 2
    return range(first), range(n_steps - (rows - first), n_steps)


def step_table(trace: Trace, say: Say, count: str, rows: int | None, ascii_only: bool) -> Table:
    """One row a step and the totals of all steps, those not shown included."""
    no_cache, cached, other = column_names(count, say)
    totals = trace.totals
    before, after = _UNIT[count](totals.no_cache), _UNIT[count](totals.cached)
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
                Text(tail(ended(text, ascii_only), _SEQUENCE_WIDTH, ascii_only)),
                Text(cut(named(step.next.text, ascii_only), _OUTPUT_WIDTH)),
                cells[0][i],
                cells[1][i],
                percent_saved(*map(_UNIT[count], counts)),
                _other(counts, count),
            )
        elif i == head.stop:
            hidden = len(trace.steps) - len(head) - len(end)
            table.add_row("..." if ascii_only else "…", say("({n} steps not shown)").format(n=hidden))
    return table


def footnotes(trace: Trace, say: Say, count: str, explained: bool = False) -> list[str]:
    """What is counted, how far the two runs agree, what other ways of counting give, and, `explained`, where a
    difference comes from."""
    totals, prefill = trace.totals, trace.as_prefill
    before, after = _UNIT[count](totals.no_cache), _UNIT[count](totals.cached)
    meaning = {
        "cells": say(
            "{before} and {after} are score cells of QKᵀ (for each head of each layer), projections not"
            " included; projected rows are those of Q, K and V together."
        ),
        "useful": say(
            "{before} and {after} are the score cells of QKᵀ that the causal mask admits (for each head of"
            " each layer); projected rows are those of Q, K and V together."
        ),
        "rows": say(
            "{before} and {after} are rows that met the weights of Q, K or V, each of the three counted"
            " (for each layer)."
        ),
        "macs": say("{before} and {after} are the multiply-accumulates of every matrix product of the whole model."),
        "flops": say("{before} and {after} are FLOPs, two for each multiply-accumulate, of the whole model."),
    }[count]
    lines = [meaning.format(before=number(before), after=number(after))]
    agreement = say("The logits of both runs differ by at most {diff} ({dtype} allows {allowed}). KV cache {bytes} B.")
    if trace.fixed_order and trace.agrees:
        agreement = say("The logits of both runs are identical, bit for bit. KV cache {bytes} B.")
    elif trace.differs_by_design:
        agreement = say(
            "The logits of both runs differ by {diff} by design: with {kind} positions cached keys keep the"
            " frequencies of the length at which they arrived. KV cache {bytes} B."
        )
    elif not trace.agrees:
        agreement = say(
            "CHECK FAILED at step {step}: the logits of both runs differ by {diff}, more than {dtype}"
            " allows ({allowed}). KV cache {bytes} B."
        )
    lines.append(
        agreement.format(
            step=trace.widest.number,
            kind=trace.by_length,
            diff=significant(trace.max_abs_diff),
            dtype=trace.dtype,
            allowed=significant(trace.allowed_diff),
            bytes=number(trace.steps[-1].cached.kv_bytes),
        )
    )
    others = []
    if prefill is not None:
        pair = [number(_UNIT[count](side)) for side in prefill]
        others.append(say("the prompt fed at once (--feed prefill): {0} against {1}").format(*pair))
    if count == "cells":
        pair = [number(side.useful_cells) for side in totals]
        others.append(say("only the cells that are not masked (--count useful): {0} against {1}").format(*pair))
    if others:
        line = say("; ").join(others) + say(".")
        lines.append(line[0].upper() + line[1:])
    if explained and trace.agrees and trace.max_abs_diff > 0.0:
        lines.append(
            say(
                "The difference is rounding: a BLAS adds the products of one row in another order than those of"
                " several rows. The backend exact adds in one order, and nothing differs (--backend exact)."
            )
        )
    return lines


def tell_table(trace: Trace, say: Say, count: str = "cells", rows: int | None = 40, ascii_only: bool = False,
               color: bool = False, explained: bool = False) -> str:  # fmt: skip
    """The whole answer of `kvsim trace`; `explained`: with a word on where a difference comes from."""
    if count not in COUNTS:
        raise UsageError("unknown count {count}: use one of {known}", count=repr(count), known=", ".join(COUNTS))
    say = plain(say) if ascii_only else say
    table = render(step_table(trace, say, count, rows, ascii_only), color)
    return "\n".join([headline(trace, say), table, *footnotes(trace, say, count, explained)])
