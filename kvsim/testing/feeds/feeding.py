"""Decoders under test, fed in every way that shows a mistake: what came, and what was expected."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.feeds.boundaries import Margins, choose_text, margins_of
from kvsim.testing.feeds.programme import LONGEST, Feed, feeds, small_feeds, unseen
from kvsim.testing.feeds.references import Allowed, Reference, allow, coarser, refuse_all
from kvsim.testing.independent.rounding import format_name
from kvsim.testing.subject.calls import Given, Problem, first_blank, largest, placed, run_text
from kvsim.testing.subject.weights import check_whole
from kvsim.testing.verdict.diagnosing import Chunks, equal

Make = Callable[..., Any]
Step = Callable[[Any, list[int]], Any]
SMALLEST = 6  # tokens of the longest text that is tried when a failure is made small


class Compared(NamedTuple):
    """One feed: what came and what was expected."""

    feed: Feed
    text: Chunks
    given: Given
    expected: Any  # [T, V]

    def fails(self, allowed: float) -> bool:
        return self.given.logits is not None and not equal(self.given.logits, self.expected, allowed)


class Check(NamedTuple):
    """All that one check knows."""

    make: Make
    step: Step
    reference: Reference
    allowed: Allowed
    done: list[Compared]
    seed: int
    cases: int
    margins: Margins  # what numbers that are quantised keep from rounding boundaries
    layers: Callable[[Any], Any] | None  # what the decoder shows of its layers


def run_feed(make: Make, step: Step, text: Chunks, reference: Reference) -> Given:
    """One text, after which the weights must be what they were."""
    given = run_text(make, step, text, reference.config.vocab_size)
    if (name := reference.altered()) is None:
        return given
    changed = Problem("the weights were changed by make or step: {name}", {"name": name}, last=True)
    return Given(None, "float64", placed(changed, text, len(text)))


def other_dtype(done: list[Compared]) -> Problem | None:
    """The last feed gave another dtype than those before."""
    came = [c.given.dtype for c in done if c.given.logits is not None]
    if done[-1].given.logits is None or came[-1] == came[0]:
        return None
    mixed = Problem("step gave {got} after it gave {before}, expected one dtype", {"got": came[-1], "before": came[0]})
    return placed(mixed, done[-1].text, 1)


def refuse_unseen(reference: Reference) -> None:
    """UsageError: a policy, or the window of weights, that shows in no feed and so would not be checked. A model that
    somebody loaded has the window that it has: a warning."""
    needed = unseen(reference.config, reference.policy)
    if needed is None:
        return
    error = UsageError(
        "the window, or the policy {policy}, shows only in texts of {needed} tokens, and feeds have up to {longest}: it"
        " would not be checked; ask for a smaller one",
        policy=reference.policy,
        needed=needed,
        longest=min(LONGEST, reference.config.max_context),
    )
    if reference.given is not None or reference.policy != "dynamic":
        raise error
    warnings.warn(str(error), stacklevel=4)


def run_check(
    make: Make, step: Step, reference: Reference, cases: int, seed: int, given: float | None, dtype: str | None,
    layers: Callable[[Any], Any] | None = None,
) -> Check:  # fmt: skip
    """Feed everything, then decide what rounding may do."""
    config = reference.config
    check_whole("seed", seed, 0)
    check_whole("cases", cases, 0)
    refuse_unseen(reference)
    chosen = feeds(config, reference.policy, cases, seed)
    numbers = [*range(len(chosen) - 1), 0]
    format = format_name(dtype) if dtype else None
    margins = margins_of(reference, max(chosen, key=sum), format or coarser(reference.dtype, "float32"), seed)
    texts = [choose_text(reference, f, n, seed, margins) for f, n in zip(chosen, numbers, strict=True)]
    done: list[Compared] = []
    for feed, text in zip(chosen, texts, strict=True):
        done.append(Compared(feed, text, run_feed(make, step, text, reference), reference.run(text)))
        if (problem := done[-1].given.problem) is not None and problem.last:
            break
        if mixed := other_dtype(done):
            done[-1] = done[-1]._replace(given=Given(None, "float64", mixed))
    came = [c.given.dtype for c in done if c.given.logits is not None]
    name = format or (coarser(came[0], reference.dtype) if came else reference.dtype)
    own = 0.0 if given is not None else reference.own_error(texts, name)
    top = max(largest(c.expected) for c in done)
    allowed = allow(name, own, top, given)
    refuse_all(allowed, top)
    return Check(make, step, reference, allowed, done, seed, cases, margins, layers)


def smallest_failing(check: Check) -> Feed | None:
    """The shortest text, in the fewest chunks, that fails."""
    vocab = check.reference.config.vocab_size
    for number, feed in enumerate(small_feeds(min(SMALLEST, check.reference.config.max_context))):
        text = choose_text(check.reference, feed, 1000 + number, check.seed, check.margins)
        given = run_text(check.make, check.step, text, vocab)
        if given.logits is not None and not equal(given.logits, check.reference.run(text), check.allowed.value):
            return feed
        if given.problem is not None and given.problem.last:
            break
    failing = [c.feed for c in check.done if c.fails(check.allowed.value)]
    return min(failing, key=lambda feed: (sum(feed), len(feed), feed), default=None)


def blank(logits: Any, text: Chunks) -> Problem | None:
    """A number that is not finite, as a problem."""
    place = first_blank(logits)
    if place is None:
        return None
    holds = Problem("the result holds {value} at {place}", {"value": logits[place], "place": list(place)})
    return placed(holds, text, int(np.searchsorted(np.cumsum([len(c) for c in text]), place[0], side="right")) + 1)
