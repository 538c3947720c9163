"""Runs of the decoder under test and of the reference on the feeds of a check, and their comparison."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.checks import check_whole
from kvsim.errors import UsageError
from kvsim.testing.feeds.boundaries import Margins, choose_text, measure_margins
from kvsim.testing.feeds.chunking import LONGEST, Feed, Texts, choose_feeds, make_text, small_feeds, tokens_missing
from kvsim.testing.feeds.progress import track
from kvsim.testing.feeds.references import Allowed, Reference, allow, check_allowed, coarser, refuse_vacuous
from kvsim.testing.independent.rounding import format_name
from kvsim.testing.subject.calls import (
    Chunks,
    Problem,
    RunOutput,
    call,
    equal,
    first_nonfinite,
    max_abs,
    run_text,
    with_place,
)
from kvsim.testing.subject.methods import find_clear
from kvsim.testing.subject.room import CASES

Make = Callable[..., Any]
Step = Callable[[Any, list[int]], Any]
CLEARED_AFTER, CLEARED = (1, 2), (1, 1)  # the feed of a state that is then emptied, and the feed of the second text
CLEARED_NUMBER = 900  # of that text
SMALLEST = 6  # tokens of the longest text that is tried to reproduce a failure


class Compared(NamedTuple):
    """The output of the decoder under test and of the reference on one feed."""

    feed: Feed
    text: Chunks
    given: RunOutput
    expected: Any  # [T, V]
    cleared: str = ""  # the function by which a used state was emptied before; "": it was a new one

    def fails(self, allowed: float) -> bool:
        """Whether there are logits and they differ by more than `allowed`."""
        return self.given.logits is not None and not equal(self.given.logits, self.expected, allowed)


class Check(NamedTuple):
    """The arguments and results of one check."""

    make: Make
    step: Step
    reference: Reference
    allowed: Allowed
    done: list[Compared]
    wanted: Texts
    margins: Margins  # the distance of quantised numbers from rounding boundaries
    more: "More"


class More(NamedTuple):
    """`layers(state)`: the outputs of the decoder's layers, if they are visible; `clear(state)`: empties a state, None:
    a method of its own does, if it has one, False: nothing does."""

    layers: Callable[[Any], Any] | None = None
    clear: Callable[[Any], Any] | bool | None = None


NO_MORE = More()


def run_feed(make: Make, step: Step, text: Chunks, reference: Reference) -> RunOutput:
    """The output for one text; a problem if the weights have been changed."""
    given = run_text(make, step, text, reference.config.vocab_size)
    if (name := reference.changed_weight()) is None:
        return given
    changed = Problem("the weights were changed by make or step: {name}", {"name": name}, fatal=True)
    return RunOutput(None, "float64", with_place(changed, text, len(text)))


def dtype_problem(done: list[Compared]) -> Problem | None:
    """The problem that the last feed has another dtype than the first."""
    dtypes = [c.given.dtype for c in done if c.given.logits is not None]
    if done[-1].given.logits is None or dtypes[-1] == dtypes[0]:
        return None
    mixed = Problem(
        "step gave {got} after it gave {before}, expected one dtype", {"got": dtypes[-1], "before": dtypes[0]}
    )
    return with_place(mixed, done[-1].text, 1)


def check_texts(wanted: Texts, max_context: int) -> Texts:
    """The numbers as Python's own. UsageError: a negative number, too many cases, or a text that is longer than the
    model's context."""
    cases, seed = check_whole("cases", wanted.cases, 0, CASES), check_whole("seed", wanted.seed, 0)
    wanted = Texts(cases, seed, check_whole("length", wanted.length, 0))
    if wanted.length > max_context:
        raise UsageError("length is at most the model's context, {context} tokens, got {length}", context=max_context,
                         length=wanted.length)  # fmt: skip
    return wanted


def refuse_unreachable(reference: Reference) -> None:
    """UsageError: the policy, or the window of made weights, makes no difference in any feed, so that it would not be
    checked. Only a warning for the window of a loaded model, which the caller cannot choose."""
    if (needed := tokens_missing(reference.config, reference.policy)) is not None:
        refuse_unchecked(reference, needed, 5)


def refuse_unchecked(reference: Reference, needed: int, level: int = 3) -> None:
    """The same, of a window or policy that shows in texts of `needed` tokens. `level`: of the frame that is warned."""
    error = UsageError(
        "the window, or the policy {policy}, shows only in texts of {needed} tokens, and feeds have up to {longest}: it"
        " would not be checked; ask for a smaller one",
        policy=reference.policy,
        needed=needed,
        longest=min(LONGEST, reference.config.max_context),
    )
    if reference.given is not None or reference.policy != "dynamic":
        raise error
    warnings.warn(str(error), stacklevel=level)


def run_check(
    make: Make, step: Step, reference: Reference, wanted: Texts, given: float | None, dtype: str | None,
    more: More = NO_MORE,
) -> Check:  # fmt: skip
    """Run all feeds, up to the first fatal problem, then compute the difference that rounding explains."""
    config = reference.config
    wanted, given = check_texts(wanted, config.max_context), check_allowed(given)
    refuse_unreachable(reference)
    chosen, seed = choose_feeds(config, reference.policy, *wanted), wanted.seed
    numbers = [*range(len(chosen) - 1), 0]  # the last feed has the text of the first
    format = None if dtype is None else format_name(dtype)
    margins = measure_margins(reference, max(chosen, key=sum), format or coarser(reference.dtype, "float32"), seed)
    texts = [choose_text(reference, f, n, seed, margins) for f, n in zip(chosen, numbers, strict=True)]
    done: list[Compared] = []
    for feed, text in track(list(zip(chosen, texts, strict=True)), "texts"):
        used: list[Any] = []
        keep = (lambda used=used: used.append(make()) or used[0]) if feed == CLEARED_AFTER else make
        done.append(Compared(feed, text, run_feed(keep, step, text, reference), reference.run(text)))
        if used and done[-1].given.logits is not None:
            done += run_cleared(used[0], step, reference, wanted.seed, more.clear)
        if (problem := done[-1].given.problem) is not None and problem.fatal:
            break
        if mixed := dtype_problem(done):
            done[-1] = done[-1]._replace(given=RunOutput(None, "float64", mixed))
    dtypes = [c.given.dtype for c in done if c.given.logits is not None]
    name = format or (coarser(dtypes[0], reference.dtype) if dtypes else reference.dtype)
    own = 0.0 if given is not None else reference.own_error([*texts, *(c.text for c in done if c.cleared)], name)
    top = max(max_abs(c.expected) for c in done)
    allowed = allow(name, own, top, given)
    refuse_vacuous(allowed, top)
    return Check(make, step, reference, allowed, done, wanted, margins, more)


def run_cleared(state: Any, step: Step, reference: Reference, seed: int, given: Any) -> list[Compared]:
    """A second text, fed to a used state after it was emptied; none if nothing empties it, or raises
    NotImplementedError."""
    found = find_clear(state, given)
    if found is None or reference.policy.startswith("int8"):  # too short to be quantised
        return []
    name, clear = found
    text = make_text(CLEARED, CLEARED_NUMBER, reference.config.vocab_size, seed)

    def make() -> Any:
        call(clear, state)
        return state

    output = run_feed(make, step, text, reference)
    if output.problem is not None and output.problem.values.get("raised") is NotImplementedError:
        return []
    return [Compared(CLEARED, text, output, reference.run(text), name)]


class Smallest(NamedTuple):
    """The smallest feed, or (queries, keys), that fails, and the number of tokens, or keys, up to which all were tried;
    `sizes` None: none of those fails. `unread`: did some of those give nothing to compare?"""

    sizes: Feed | None
    searched: int
    unread: bool = False


def smallest_failing(check: Check) -> Smallest:
    """The shortest text in the fewest chunks that fails."""
    config, searched, unread = check.reference.config, 0, False
    for number, feed in enumerate(small_feeds(min(SMALLEST, config.max_context))):
        text = choose_text(check.reference, feed, 1000 + number, check.wanted.seed, check.margins)
        given = run_text(check.make, check.step, text, config.vocab_size)
        if given.logits is not None and not equal(given.logits, check.reference.run(text), check.allowed.value):
            return Smallest(feed, sum(feed), unread)
        if given.problem is not None and given.problem.fatal:
            return Smallest(None, searched, unread)
        unread = unread or given.problem is not None
        searched = sum(feed) - (len(feed) < sum(feed))  # the last feed of each length is token by token
    return Smallest(None, searched, unread)


def nonfinite_problem(logits: Any, text: Chunks) -> Problem | None:
    """The problem that the logits hold a NaN or an infinity; None if they do not."""
    place = first_nonfinite(logits)
    if place is None:
        return None
    holds = Problem("the result holds {value} at {place}", {"value": logits[place], "place": list(place)})
    return with_place(holds, text, int(np.searchsorted(np.cumsum([len(c) for c in text]), place[0], side="right")) + 1)
