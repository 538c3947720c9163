"""The record of a decoder that failed: where it first differs, which positions depend on which, the mistake."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.testing.feeds.chunking import split_chunks
from kvsim.testing.feeds.feeding import Check, Compared, smallest_failing
from kvsim.testing.subject.calls import Chunks, Problem, UnreadableError, first_nonfinite, max_abs, run_text
from kvsim.testing.subject.weights import Sizes
from kvsim.testing.verdict.diagnosing import Suspects, Vote, diagnose
from kvsim.testing.verdict.failure import (
    Blank,
    Command,
    DecoderFailure,
    Dependence,
    Diagnosis,
    Difference,
    Failure,
    LayerPlace,
    LogitPlace,
)
from kvsim.testing.verdict.known import find_known
from kvsim.testing.verdict.layers import first_differing, see_layers


def describe_failure(check: Check) -> Failure:
    """What is wrong with the decoder of a check that failed. It is run again: for layers, dependence, smallest feed."""
    allowed = check.allowed.value
    failing = [c for c in check.done if c.fails(allowed)]
    problems = [c.given.problem for c in check.done if c.given.problem is not None]
    if not failing or any(problem.fatal for problem in problems):
        return _not_compared(check, problems)
    first = next((c for c in failing if not c.cleared), failing[0])
    after_clear = first.cleared  # then no text fails that is fed to a new state
    after_others = not check.done[0].fails(allowed) and check.done[-1].fails(allowed)  # the last feed is the first one
    again = not after_clear and not after_others  # what a new state gives can be looked at
    layer = None if after_clear else find_layer(check, first)
    votes = [Vote(c.expected, c.given.logits, check.allowed.value, steps_of(c.feed)) for c in check.done]
    diagnosis = find_diagnosis(check, votes)
    unsteady = find_unsteady(check, first) if again else None
    return DecoderFailure(
        policy=check.reference.policy,
        problems=tuple(problems),
        failing=tuple(c.feed for c in failing),
        n_feeds=len(check.done),
        difference=measure([(c.given.logits, c.expected) for c in failing], allowed),
        allowed=check.allowed,
        blank=find_blank(check),
        first=first_place(first, allowed),
        layer=layer,
        unsteady=unsteady,
        after_others=after_others,
        after_clear=after_clear,
        dependence=find_dependence(check, first) if again and unsteady is None else None,
        diagnosis=diagnosis,
        known=None if diagnosis and diagnosis.candidates else find_known(check, votes),
        smallest=smallest_failing(check),
        command=explain_command(check),
    )


def _not_compared(check: Check, problems: list[Problem]) -> Failure:
    """Nothing could be compared, or a call ended the check before all was: only the problems are reported."""
    raised = {problem.values.get("raised") for problem in problems}
    unwritten = raised == {NotImplementedError} and not any(c.given.logits is not None for c in check.done)
    last = tuple(problem for problem in problems if problem.fatal)
    return Failure(headlines=last or tuple(problems[:1]), compared=False, unwritten=unwritten)


def measure(pairs: list[tuple[Any, Any]], allowed: float) -> Difference:
    """Of pairs (got, expected) of arrays of one shape: how many numbers differ by more than `allowed`."""
    wrong = [~(np.abs(got - expected) <= allowed) for got, expected in pairs]
    worst = max_abs(np.concatenate([(got - expected).ravel() for got, expected in pairs]))
    return Difference(sum(int(w.sum()) for w in wrong), sum(w.size for w in wrong), worst)


def find_diagnosis(check: Check, votes: list[Vote]) -> Diagnosis | None:
    """Which mistake of the bank explains the feeds; None if the independent decoder does not cover the model."""
    reference = check.reference
    if not reference.covered:
        return None
    texts, cleared = [c.text for c in check.done], {i for i, c in enumerate(check.done) if c.cleared}
    return diagnose(votes, Suspects(reference.config, reference.weights, reference.policy, texts, cleared))


def steps_of(feed: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The number of tokens fed before each step of a feed, and in it."""
    return tuple((sum(feed[:i]), count) for i, count in enumerate(feed))


def dependence(run: Callable[[Chunks], Any], compared: Compared, vocab: int, allowed: float) -> Any:
    """[T, T] booleans: does row i of the logits change when token j does? None if a run gives no logits."""
    ids = [i for chunk in compared.text for i in chunk]
    before, columns = run(compared.text), []
    for j in range(len(ids)):
        other = [*ids[:j], (ids[j] + 1) % vocab, *ids[j + 1 :]]
        after = run(split_chunks(other, compared.feed))
        if before is None or after is None:
            return None
        with np.errstate(invalid="ignore"):
            columns.append(~(np.abs(after - before).max(axis=1) <= allowed))
    return np.stack(columns, axis=1)


def find_dependence(check: Check, compared: Compared) -> Dependence | None:
    """Which positions depend on which; None if as in the reference, or not visible because NaN never changes."""
    if first_nonfinite(compared.given.logits) is not None:
        return None
    vocab, allowed = check.reference.config.vocab_size, check.allowed.value
    got = dependence(lambda t: run_text(check.make, check.step, t, vocab).logits, compared, vocab, allowed)
    expected = dependence(check.reference.run, compared, vocab, allowed)
    return None if got is None or np.array_equal(got, expected) else Dependence(compared.feed, got, expected)


def find_unsteady(check: Check, compared: Compared) -> float | None:
    """The largest |difference| between two runs of the same text, if rounding does not explain it."""
    again = run_text(check.make, check.step, compared.text, check.reference.config.vocab_size).logits
    if again is None or first_nonfinite(again) is not None or first_nonfinite(compared.given.logits) is not None:
        return None
    apart = max_abs(again - compared.given.logits)
    return apart if apart > check.allowed.value else None


def first_place(compared: Compared, allowed: float) -> LogitPlace:
    """The first of the logits that differs."""
    got, expected = compared.given.logits, compared.expected
    row, channel = (int(i) for i in np.argwhere(~(np.abs(got - expected) <= allowed))[0])
    step = int(np.searchsorted(np.cumsum(compared.feed), row, side="right"))
    return place_of(compared, step, row, channel, got, expected)


def place_of(compared: Compared, step: int, row: int, channel: int, got: Any, expected: Any) -> LogitPlace:
    """One number of two arrays with a row for each token of the text. `step` is from 0, `row` of the whole text."""
    ids = [i for chunk in compared.text for i in chunk]
    return LogitPlace(
        compared.feed, step + 1, row - sum(compared.feed[:step]), ids[row], row, channel, float(got[row, channel]),
        float(expected[row, channel]),
    )  # fmt: skip


def find_layer(check: Check, compared: Compared) -> LayerPlace | Problem | None:
    """The first of the visible layers that differs; None if none is visible."""
    if check.more.layers is None:
        return None
    try:
        seen = see_layers(check, compared, check.more.layers)
    except UnreadableError as error:
        return error.problem
    place = first_differing(seen, compared.feed)
    last = len(seen.got) - 1
    if place is None:
        return LayerPlace(last)
    step, layer, row, channel = place
    found = place_of(compared, step, row, channel, seen.got[layer], seen.expected[layer])
    return LayerPlace(last, layer, found, seen.allowed[layer])


def find_blank(check: Check) -> Blank | None:
    """The first number that is not finite."""
    for compared in check.done:
        logits = compared.given.logits
        if logits is not None and (index := first_nonfinite(logits)) is not None:
            return Blank(logits[index], index, compared.feed)
    return None


def explain_command(check: Check) -> Command:
    """The options of `kvsim explain` for this check's model and seed."""
    config, given = check.reference.config, check.reference.given
    window = next((k.window for k in config.layers if k.window is not None), None)
    options: dict[str, Any] = {"heads": config.n_heads, "kv-heads": config.n_kv_heads, "window": window}
    options |= {"layers": config.n_layers if config.n_layers != Sizes.layers else None,
                "d-head": config.d_head if config.d_head != Sizes.d_head else None,
                "cases": check.wanted.cases or None, "length": check.wanted.length or None,
                "seed": check.wanted.seed}  # fmt: skip
    sizes = Sizes(config.n_layers, config.n_heads, config.n_kv_heads, config.d_head, window)
    same = given is not None and (given.config, given.seed) == (sizes, check.wanted.seed)
    return Command(options, same and not any(c.cleared for c in check.done))
