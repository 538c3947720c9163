"""The last step and the table of all steps as plain HTML, for browsers without scripts."""

import html
from collections.abc import Iterable
from typing import NamedTuple

from kvsim.comparisons.cells import Cells, count_read, find_cells
from kvsim.comparisons.trace_record import Trace
from kvsim.i18n.language import Say
from kvsim.views.terminal.text import cut, number, percent_saved
from kvsim.views.terminal.tokens import Reader
from kvsim.views.terminal.trace_notes import footnotes, headline

_MOST_TOKENS = 24  # of a longer text the last ones are drawn
_MOST_STEPS = 40  # of more steps the first and the last are listed
_CLASSES = {"#": "n", " ": "o"}  # of cells whose letter is no name


class Names(NamedTuple):
    """A trace's tokens as they are shown, in whole characters."""

    fed: list[str]
    next: list[str]  # the choice of each step
    text: str  # all together
    reader: Reader


def read_names(trace: Trace) -> Names:
    """The tokens of all steps."""
    reader, fed, chosen = Reader(), [], []
    for step in trace.steps:
        fed += [reader.read(piece.text) for piece in step.fed]
        chosen.append(reader.look(step.next.text))
    return Names(fed, chosen, reader.so_far() + chosen[-1], reader)


def draw_still(trace: Trace, names: Names, say: Say) -> str:
    """A heading, the cells of the last step in both runs, the table of steps, and what is counted."""
    step = trace.steps[-1]
    skipped = max(0, count_read(trace, step) - _MOST_TOKENS)
    labels = [cut(name, 8) for name in names.fed]
    runs = [(say("Without a cache"), step.no_cache), (say("With a cache"), step.cached)]
    parts = [f"<h1>{_mark(say('KV cache, step by step'))}</h1>", f"<p>{_mark(headline(trace, say))}</p>"]
    for heading, side in runs:
        cells = find_cells(trace, step, side)
        rows, columns = cells.size
        size = f"{rows}×{columns} = {number(side.counts.score_cells)}"
        parts.append(f"<h2>{_mark(heading)} {size}</h2>{_draw(cells, labels, skipped)}")
    parts.append(
        f"<p>{_mark(say('# computed  x masked  c cached  K new K  V new V'))}</p>{_draw_table(trace, names, say)}"
    )
    return "".join([*parts, f"<p>{_mark(footnotes(trace, say, 'cells')[0])}</p>"])


def _mark(text: str) -> str:
    return html.escape(text, quote=False)


def _draw(cells: Cells, names: list[str], skipped: int) -> str:
    """Rows of cells: keys, values, then the scores that were computed, each with the name of its query."""
    rows = [("K", cells.keys), ("V", cells.values)]
    rows += [(names[cells.first_row + i], states) for i, states in enumerate(cells.scores)][-_MOST_TOKENS:]
    return "".join(f"<div><b><bdi>{_mark(name)}</bdi></b>{_draw_row(states[skipped:])}</div>" for name, states in rows)


def _draw_row(states: str) -> str:
    return "".join(f"<i class={_CLASSES.get(state, state)}>{state.strip()}</i>" for state in states)


def _draw_table(trace: Trace, names: Names, say: Say) -> str:
    """One row a step, and the totals."""
    last = len(trace.steps)
    heads = [say("step"), say("next"), say("Without a cache"), say("With a cache"), say("saved"), say("QKV rows")]
    rows = [_row("th", heads)]
    for step in trace.steps:
        if min(step.number, last + 1 - step.number) > _MOST_STEPS // 2:
            continue
        rows.append(_row("td", [str(step.number), cut(names.next[step.number - 1], 12), *_numbers(step)]))
    rows.append(_row("th", ["", say("total"), *_numbers(trace.totals)]))
    return f"<table>{''.join(rows)}</table>"


def _numbers(pair: object) -> list[str]:
    """Score cells of both runs, the saved part, projected rows: of a step, or of the totals."""
    before, after = (getattr(side, "counts", side) for side in (pair.no_cache, pair.cached))  # type: ignore[attr-defined]
    cells = [before.score_cells, after.score_cells]
    rows = f"{number(before.projected_rows)} / {number(after.projected_rows)}"
    return [*map(number, cells), percent_saved(*cells), rows]


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_mark(cell)}" for cell in cells)
