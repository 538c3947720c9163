"""The page of a comparison of caches: one column a policy, with the rows that it keeps and what its logits lose."""

import html
from collections.abc import Iterable
from typing import Any

from kvsim.comparisons.policies_record import PolicyComparison, PolicyRun
from kvsim.errors import UsageError
from kvsim.i18n.language import Say
from kvsim.views.page.kinds import Told
from kvsim.views.page.results.compare_texts import compare_keys, compare_texts
from kvsim.views.terminal.policies import comparison_parts, heading, notes
from kvsim.views.terminal.sheet import Sheet
from kvsim.views.terminal.text import cut
from kvsim.views.terminal.tokens import Reader

_LABEL = 12  # terminal cells of a token's text in a heading; all of it stands beside the cell
_MOST_STILL = 24  # tokens of the still frame; of a longer text the last ones are drawn


def tell(comparison: PolicyComparison) -> Told:
    """The page's data and texts. UsageError: the comparison was made without its history."""
    if comparison.reference.history is None:
        raise UsageError("the page draws every step of the comparison: use kvsim.compare(…, history=True)")
    reader = Reader()
    names = [reader.read(piece.text) for piece in (*comparison.prompt, *comparison.new[:-1])]
    title = cut(reader.so_far(), 40)
    return Told(
        data={"title": title, **_data(comparison, names)},
        texts=compare_texts,
        keys=compare_keys,
        lines=lambda say: (heading(comparison, say), [*notes(comparison, say), *reader.notes(say)]),
        title=lambda say: say("Caches compared, step by step: {text}").format(text=title),
        still=lambda say: _draw_still(comparison, names, say),
    )


def _data(comparison: PolicyComparison, names: list[str]) -> dict[str, Any]:
    return {
        "model": comparison.model,
        "prompt": len(comparison.prompt),
        "tokens": [cut(name, _LABEL) for name in names],
        "long": {i: name for i, name in enumerate(names) if cut(name, _LABEL) != name},
        "vocabulary": {piece.id: cut(Reader().look(piece.text), _LABEL) for piece in comparison.choices},
        "stops": list(comparison.stops),
        "reference": _cost(comparison.reference),
        "runs": [_run(comparison, run) for run in comparison.runs],
    }


def _cost(run: PolicyRun) -> dict[str, Any]:
    assert run.history is not None
    steps = [{**step.counts._asdict(), **step._asdict()} for step in run.history.steps]
    names = [name for name in steps[0] if name != "counts"]
    return {
        "cache": run.cache,
        "lossless": run.lossless,
        "logical_bytes": run.logical_bytes,
        "allocated_bytes": run.allocated_bytes,
        "metadata_bytes": run.metadata_bytes,
        "counts": run.counts._asdict(),
        "steps": {name: [step[name] for step in steps] for name in names},
    }


def _run(comparison: PolicyComparison, run: PolicyRun) -> dict[str, Any]:
    """A run, its closeness, every position as columns, and the fates of its rows, equal ones once."""
    assert run.history is not None
    layers = run.history.evicted or ()
    fates = list(dict.fromkeys(head for layer in layers for head in layer))
    columns = zip(*run.rows, strict=True)
    return {
        **_cost(run),
        "all": comparison.all_of(run)._asdict(),
        "new": comparison.new_of(run)._asdict(),
        "first_change": run.first_change,
        "rows": dict(zip(run.rows[0]._fields, map(list, columns), strict=True)),
        "fates": [list(fate) for fate in fates],
        "fate_of": [[fates.index(head) for head in layer] for layer in layers],
        "left_out": run.history.left_out,
    }


def _draw_still(comparison: PolicyComparison, names: list[str], say: Say) -> str:
    """A heading, the rows that each cache holds at the end (of layer 0, head 0), and the table."""
    table = next(part for part in comparison_parts(comparison, say) if isinstance(part, Sheet))
    parts = [f"<h1>{_mark(say('Caches compared, step by step'))}</h1>", f"<p>{_mark(heading(comparison, say))}</p>"]
    parts += [_draw_rows(run, names, len(comparison.stops), say) for run in comparison.runs]
    rows = [_row("th", (column.heading for column in table.columns))]
    rows += [_row("td", (str(cell) for cell in row)) for row in table.rows]
    lines = "".join(f"<p>{_mark(line)}</p>" for line in notes(comparison, say))
    return "".join([*parts, f"<table>{''.join(rows)}</table>", lines])


def _draw_rows(run: PolicyRun, names: list[str], last: int, say: Say) -> str:
    """The tokens, and the row of each after the last step: kept (c), evicted in that step (x) or before."""
    assert run.history is not None
    head = f"<h2>{_mark(run.cache)}</h2>"
    if run.history.evicted is None:
        return head
    fate = list(enumerate(run.history.evicted[0][0]))[-_MOST_STILL:]
    cells = "".join(
        "<i class=c>c</i>" if not e else "<i class=x>x</i>" if e == last else "<i class=n></i>" for _, e in fate
    )
    labels = "".join(f"<i><bdi>{_mark(cut(names[position], 2))}</bdi></i>" for position, _ in fate)
    return f"{head}<div><b></b>{labels}</div><div><b>{_mark(say('held'))}</b>{cells}</div>"


def _mark(text: str) -> str:
    return html.escape(text, quote=False)


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_mark(cell)}" for cell in cells)
