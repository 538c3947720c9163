"""The check of what a decoder computes, in score cells and projected rows."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from kvsim.checks import check_list, check_whole
from kvsim.errors import UsageError, Words, shortened
from kvsim.testing.feeds.chunking import split_chunks
from kvsim.testing.subject.calls import Chunks, Problem, UnreadableError, call
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.subject.numpy_products import count_numpy_products
from kvsim.testing.subject.products import CELLS, ROWS, Tally
from kvsim.testing.subject.room import NUMBERS
from kvsim.testing.subject.weights import ModelWeights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure

Make = Callable[[], Any]
Step = Callable[[Any, list[int]], Any]
Report = Callable[[Any], dict[str, int]]


class Counted(NamedTuple):
    """The counts of a run, how they were counted, and the reason for each that is missing."""

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
    """Counts of the products of NumPy arrays and, if torch is imported, of torch tensors."""
    with ExitStack() as stack:
        tallies = [stack.enter_context(count_numpy_products(weights))]
        if "torch" in sys.modules:
            from kvsim.testing.subject.torch_products import count_torch_products

            tallies.append(stack.enter_context(count_torch_products(weights)))
        run_fed(make, step, text)
    seen = [tally for tally in tallies if tally.products or tally.unknown]
    for tally in seen:
        tally.close(sum(len(chunk) for chunk in text))
    return read_tallies(seen, tallies[0])


def read_tallies(seen: list[Tally], numpys: Tally) -> Counted:
    """The counts of the one library whose products were seen; all unknown if there was none, or more than one."""
    if not seen:
        reason = Problem(
            "no product of NumPy arrays or torch tensors was seen: weights must be read from the dict when make is"
            " called (NumPy), or torch be imported before; or report= must say what was computed", {},
        )  # fmt: skip
        return Counted({}, reason, dict.fromkeys((CELLS, ROWS), reason))
    if len(seen) > 1:
        reason = Problem("products of NumPy arrays and of torch tensors were seen: which arrays go from one library to"
                         " the other is not known", {})  # fmt: skip
        return Counted({}, reason, dict.fromkeys((CELLS, ROWS), reason))
    (tally,) = seen
    how = Problem("counted in {products} products of NumPy arrays", {"products": tally.products})
    if tally is not numpys:
        how = Problem(
            "counted in {products} products of torch tensors, {flops} FLOPs by torch's FlopCounterMode",
            {"products": tally.products, "flops": tally.flops},
        )
    return Counted(tally.counts(), how, tally.unknown)


def ask_report(make: Make, step: Step, text: Chunks, report: Report) -> Counted:
    """The counts that the decoder reports itself. UnreadableError: the report is no dict of integers."""
    got = call(report, run_fed(make, step, text))
    if not isinstance(got, dict) or not all(type(got.get(name, 0)) is int for name in (CELLS, ROWS)):
        raise UnreadableError(
            'report gave {got}, expected {{"score_cells": int, "projected_rows": int}} or one of them',
            got=" ".join(shortened(got).split()),
        )
    reason = Problem("report does not give {names}", {"names": ", ".join({CELLS, ROWS} - got.keys())})
    return Counted(got, Problem("counted from shapes by report=", {}),
                   {name: reason for name in (CELLS, ROWS) if name not in got})  # fmt: skip


def assert_cost(
    make: Make, step: Step, feed: list[int], *, reference: Any, score_cells: int | None = None,
    projected_rows: int | None = None, report: Report | None = None, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check the work of a decoder that is fed chunks of the sizes `feed`, as exact integers.

    Score cells are rows x columns of QKᵀ of one head of one layer; projected rows are the rows multiplied by a Q, K or
    V weight of one layer, each of the three counted. Counted are products of NumPy arrays, if `make` reads the weights
    from the dict `reference`, and of torch tensors, recognised by the values of the weights and compared with torch's
    FlopCounterMode. For other libraries `report(state)` returns {"score_cells": ..., "projected_rows": ...}. A failure
    says how it was counted.

    OracleError: other counts, or counts that are not known, and why. UsageError: `reference` has no weights to count
    in, `feed` no sizes of chunks, or an expected count is no whole number.
    """
    __tracebackhide__ = True
    make, step = limited(make, seconds, "make"), limited(step, seconds, "step")
    feed = read_feed(feed)
    if not isinstance(reference, ModelWeights) and report is None:
        raise UsageError("costs are counted in weights made by kvsim.testing.weights: give them as reference=")
    wanted = {CELLS: score_cells, ROWS: projected_rows}
    expected = {name: check_whole(name, n, 0) for name, n in wanted.items() if n is not None}
    vocab = reference.config.vocab if isinstance(reference, ModelWeights) else 2
    text = split_chunks([i % vocab for i in range(1, sum(feed) + 1)], tuple(feed))
    try:
        if report is None:
            counted = count_cost(make, step, text, reference)
        else:
            counted = ask_report(make, step, text, limited(report, seconds, "report"))
    except UnreadableError as error:
        raise OracleError(Failure(headlines=(error.problem,), compared=False)) from error
    refuse_unknown(counted, list(expected))
    wrong = {name: n for name, n in expected.items() if counted.counts[name] != n}
    if wrong:
        raise OracleError(describe_costs(counted, wrong, sum(feed)))


def read_feed(feed: Any) -> list[int]:
    """The sizes of chunks. UsageError: none, or anything but whole numbers from 1 to `NUMBERS` together."""
    sizes = [check_whole("feed", size, 1) for size in check_list("feed", feed)]
    check_whole(Words("the number of tokens in feed"), sum(sizes), 1, NUMBERS)
    return sizes


def describe_costs(counted: Counted, wrong: dict[str, int], n_tokens: int) -> Failure:
    """The record of counts that are not the expected ones `wrong`."""
    headlines = []
    if CELLS in wrong:
        headlines.append(Problem("score cells of one head of one layer: {got}, expected {expected}",
                                 {"got": counted.counts[CELLS], "expected": wrong[CELLS]}))  # fmt: skip
    if ROWS in wrong:
        headlines.append(Problem("projected rows of Q, K and V of one layer: {got}, expected {expected}",
                                 {"got": counted.counts[ROWS], "expected": wrong[ROWS]}))  # fmt: skip
    notes = [counted.how]
    if (rows := counted.counts.get(ROWS, 0)) > 3 * n_tokens:
        again = Problem(
            "with {rows} projected rows, every token's K and V are computed again at every step: this is no cache",
            {"rows": rows},
        )
        notes.insert(0, again)
    return Failure(headlines=tuple(headlines), notes=tuple(notes), numbers={"cost": counted.counts})


def refuse_unknown(counted: Counted, names: list[str]) -> None:
    """OracleError: a count of these is not known. Nothing unknown is counted as zero."""
    __tracebackhide__ = True
    reasons: list[Problem] = []
    for name in names:
        reason = counted.unknown.get(name)
        if reason is not None and reason not in reasons:
            reasons.append(reason)
    if reasons:
        advice = Problem("the cost cannot be determined; report= can say what was computed", {})
        raise OracleError(Failure(headlines=(advice,), notes=tuple(reasons), unknown=True))
