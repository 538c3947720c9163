"""A trace as a picture: one step, or all steps as small multiples. Deterministic SVG, text as text."""

from kvsim.comparisons.cells import find_step
from kvsim.comparisons.trace_record import Trace
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, language_of
from kvsim.text import join_pieces
from kvsim.views.picture.cells import draw_legend
from kvsim.views.picture.elements import Drawing, mark_text, measure, wrap, write
from kvsim.views.picture.step import LARGE, SMALL, Sizes, draw_panel, say_title
from kvsim.views.terminal.text import number, percent_saved
from kvsim.views.terminal.tokens import read_step

MOST_STEPS = 16  # of small multiples
_COLUMNS, _WIDEST = 4, 1800  # panels side by side, and the pixels that they may take
_MARGIN = 24


def check_steps(steps: int) -> None:
    """UsageError: too many steps for small multiples."""
    if steps > MOST_STEPS:
        raise UsageError(
            "a picture of all steps draws at most {most}, this trace has {steps}: choose one with --step",
            most=MOST_STEPS,
            steps=steps,
        )


def _say_totals(trace: Trace, say: Say) -> str:
    """The sums over all steps, of both runs."""
    before, after = trace.totals
    return say(
        "all {n} steps: {before} score cells without a cache, {after} with one ({saved} saved);"
        " Q, K, V rows {rows_before} and {rows_after}"
    ).format(
        n=len(trace.steps),
        before=number(before.score_cells),
        after=number(after.score_cells),
        saved=percent_saved(before.score_cells, after.score_cells),
        rows_before=number(before.projected_rows),
        rows_after=number(after.projected_rows),
    )


def _place(panels: list[Drawing], gap: float) -> Drawing:
    """The panels in rows of equal columns."""
    width = max(panel.width for panel in panels)
    most = max(1, min(_COLUMNS, len(panels), int((_WIDEST + gap) // (width + gap))))
    columns = min(range(max(1, most // 2), most + 1), key=lambda n: (-len(panels) % n, -n))  # fewest empty places
    elements, y = [], 0.0
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        elements += [panel.moved((width + gap) * i, y) for i, panel in enumerate(row)]
        y += max(panel.height for panel in row) + gap
    return Drawing(columns * (width + gap) - gap, y - gap, elements)


def _frame(
    panels: list[Drawing], totals: list[str], parts: list[str], title: str, sizes: Sizes, say: Say
) -> str:  # fmt: skip
    """The panels, then the legend, the totals, what a square is, what stands for a part of a character, with a margin
    around."""
    placed = _place(panels, 1.5 * sizes.gap)
    y = _MARGIN + placed.height + sizes.line
    marks = say("# computed  x masked  c cached  K new K  V new V")
    width, legend = draw_legend(marks, _MARGIN, y, sizes.font)
    elements, widths = [placed.moved(_MARGIN, _MARGIN), *legend], [placed.width, width]
    y += sizes.line + 0.3 * sizes.font
    notes = [
        say("Outlined: the rows that the step needs."),
        say("Squares: one head of the first layer; KV cache: all layers."),
        *parts,
    ]
    for line, bold in [*((line, True) for line in totals), *((line, False) for line in notes)]:
        y += sizes.line
        elements.append(write(_MARGIN, y, mark_text(line), sizes.font, more=' font-weight="bold"' if bold else ""))
        widths.append(measure(line, sizes.font))
    whole = Drawing(round(max(widths) + 2 * _MARGIN), round(y + _MARGIN), elements)
    return wrap(whole, title, language_of(say))


def draw_step(trace: Trace, say: Say, step_number: int | None = None) -> str:
    """One step as SVG, the last by default: each run's scores, keys and values as cells, and their counts.

    UsageError: there is no such step.
    """
    step = find_step(trace, step_number)
    sentence, values = say_title(trace, step, say)
    parts = read_step(trace, step).reader.notes(say)
    return _frame([draw_panel(trace, step, LARGE, say)], [], parts, sentence.format(**values), LARGE, say)


def draw_steps(trace: Trace, say: Say) -> str:
    """All steps as SVG, small multiples side by side, with the totals. UsageError: more than MOST_STEPS steps."""
    check_steps(len(trace.steps))
    if len(trace.steps) == 1:
        return draw_step(trace, say)
    panels = [draw_panel(trace, step, SMALL, say) for step in trace.steps]
    text = join_pieces(piece.text for piece in trace.fed)
    title = say("model {name} (layers {layers}, heads {heads} / KV heads {kv_heads}, d_head {d_head})")
    parts = max((read_step(trace, step).reader.notes(say) for step in trace.steps), key=len)
    return _frame(panels, [_say_totals(trace, say)], parts, f"{title.format(**trace.model)} {text[:80]}", SMALL, say)
