"""What somebody else's decoder computes, in score cells and projected rows, held against what a cache leaves of it."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from kvsim.errors import UsageError, shortened
from kvsim.testing.feeds.programme import chunks
from kvsim.testing.subject.calls import Problem, UnreadableError, call
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.subject.numpy_products import telling
from kvsim.testing.subject.products import CELLS, ROWS, Tally
from kvsim.testing.subject.weights import ModelWeights
from kvsim.testing.verdict.diagnosing import Chunks
from kvsim.testing.verdict.failing import OracleError
from kvsim.testing.verdict.sentences import language, tell

Make = Callable[[], Any]
Step = Callable[[Any, list[int]], Any]


class Counted(NamedTuple):
    """What a run cost, how that was found out, and why a count is missing."""

    counts: dict[str, Any]
    how: Problem
    unknown: dict[str, Problem]


def run_fed(make: Make, step: Step, text: Chunks) -> Any:
    """The state after the text."""
    state = call(make)
    for chunk in text:
        call(step, state, list(chunk))
    return state


def count_cost(make: Make, step: Step, text: Chunks, weights: ModelWeights) -> Counted:
    """Products of NumPy arrays, and those of torch tensors where torch is there."""
    with ExitStack() as stack:
        tallies = [stack.enter_context(telling(weights))]
        if "torch" in sys.modules:
            from kvsim.testing.subject.torch_products import watching

            tallies.append(stack.enter_context(watching(weights)))
        run_fed(make, step, text)
    seen = [tally for tally in tallies if tally.products or tally.unknown]
    for tally in seen:
        tally.close(sum(len(chunk) for chunk in text))
    return told_of(seen, tallies[0])


def told_of(seen: list[Tally], numpys: Tally) -> Counted:
    """The counts of the one library that computed."""
    if not seen:
        reason = Problem(
            "no product of NumPy arrays or torch tensors was seen: weights must be read from the dict when make is"
            " called (NumPy), or torch be imported before; or report= must say what was computed", {},
        )  # fmt: skip
        return Counted({}, reason, dict.fromkeys((CELLS, ROWS), reason))
    if len(seen) > 1:
        reason = Problem("products of NumPy arrays and of torch tensors were seen: which of them go on from one to the"
                         " other is not told", {})  # fmt: skip
        return Counted({}, reason, dict.fromkeys((CELLS, ROWS), reason))
    (tally,) = seen
    how = Problem("counted in {products} products of NumPy arrays", {"products": tally.products})
    if tally is not numpys:
        how = Problem(
            "counted in {products} products of torch tensors, {flops} FLOPs by torch's FlopCounterMode",
            {"products": tally.products, "flops": tally.flops},
        )
    return Counted(tally.counts(), how, tally.unknown)


def ask_report(make: Make, step: Step, text: Chunks, report: Callable[[Any], dict[str, int]]) -> Counted:
    """What the decoder says of itself."""
    got = call(report, run_fed(make, step, text))
    if not isinstance(got, dict) or not all(type(got.get(name, 0)) is int for name in (CELLS, ROWS)):
        raise UnreadableError(
            'report gave {got}, expected {{"score_cells": int, "projected_rows": int}} or one of them',
            got=" ".join(shortened(got).split()),
        )
    reason = Problem("report says nothing of {names}", {"names": ", ".join({CELLS, ROWS} - got.keys())})
    return Counted(got, Problem("counted from shapes, as report= says", {}),
                   {name: reason for name in (CELLS, ROWS) if name not in got})  # fmt: skip


def assert_cost(
    make: Make, step: Step, feed: list[int], *, reference: Any, score_cells: int | None = None,
    projected_rows: int | None = None, report: Callable[[Any], dict[str, int]] | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Does feeding chunks of these sizes compute what a cache leaves to compute? Score cells are rows x columns of QKᵀ
    of one head of one layer; projected rows those that meet a Q, K or V weight of one layer, each of the three counted.

    Counted where arrays are NumPy's and `make` reads the weights from the dict `reference`, and where they are torch's
    (by FlopCounterMode and by what meets the weights' values); otherwise `report(state)` says {"score_cells": ...,
    "projected_rows": ...} from the shapes that it has. The message says which. OracleError: another cost, or one that
    could not be told, and why.
    """
    __tracebackhide__ = True
    lang, make, step = language(), limited(make, seconds), limited(step, seconds)
    if not isinstance(reference, ModelWeights) and report is None:
        raise UsageError("costs are counted in weights made by kvsim.testing.weights: give them as reference=")
    vocab = reference.config.vocab if isinstance(reference, ModelWeights) else 2
    text = chunks([i % vocab for i in range(1, sum(feed) + 1)], tuple(feed))
    try:
        if report is None:
            counted = count_cost(make, step, text, reference)
        else:
            counted = ask_report(make, step, text, limited(report, seconds))
    except UnreadableError as error:
        raise OracleError(tell(lang, error.problem.template, **error.problem.values), {"diagnosis": []}) from error
    asked = {
        name: (expected, template)
        for name, expected, template in (
            (CELLS, score_cells, "score cells of one head of one layer: {got}, expected {expected}"),
            (ROWS, projected_rows, "projected rows of Q, K and V of one layer: {got}, expected {expected}"),
        )
        if expected is not None
    }
    refuse_unknown(lang, counted, list(asked))
    lines = [
        tell(lang, template, got=counted.counts[name], expected=expected)
        for name, (expected, template) in asked.items()
        if counted.counts[name] != expected
    ]
    if not lines:
        return
    if (rows := counted.counts.get(ROWS, 0)) > 3 * sum(feed):
        lines.append("  " + tell(
            lang,
            "with {rows} projected rows, every token's K and V are computed again at every step: this is no cache",
            rows=rows,
        ))  # fmt: skip
    lines.append("  " + tell(lang, counted.how.template, **counted.how.values))
    raise OracleError("\n".join(lines), {"diagnosis": [], "cost": counted.counts})


def refuse_unknown(lang: str, counted: Counted, asked: list[str]) -> None:
    """Nothing unknown is counted as zero. OracleError: a count that is asked for is not known."""
    __tracebackhide__ = True
    reasons = list(dict.fromkeys(
        tell(lang, problem.template, **problem.values)
        for name in asked
        if (problem := counted.unknown.get(name)) is not None
    ))  # fmt: skip
    if reasons:
        advice = tell(lang, "the cost cannot be told; report= can say what was computed")
        raise OracleError("\n  ".join([advice, *reasons]), {"diagnosis": [], "unknown": reasons})
