"""The check of caches that are cropped and forked between steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kvsim.checks import check_whole
from kvsim.errors import UsageError
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.feeds.feeding import Make, Step
from kvsim.testing.feeds.references import Allowed, Reference, allow, coarser
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rounding import format_name
from kvsim.testing.subject.calls import Problem, UnreadableError, call, equal, max_abs, to_host
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure

FEED, CROP, FORK = "feed", "crop", "fork"
Script = Sequence[tuple[str, int, int]]  # what is done, to which state, and with how many tokens; a fork adds a state
CROPS: list[Script] = [
    [(FEED, 0, 3), (CROP, 0, 2), (FEED, 0, 2), (FEED, 0, 1)],
    [(FEED, 0, 3), (CROP, 0, 0), (FEED, 0, 2)],
    [(FEED, 0, 2), (FEED, 0, 1), (FEED, 0, 1), (CROP, 0, 2), (FEED, 0, 1), (FEED, 0, 2)],
]
FORKS: list[Script] = [
    [(FEED, 0, 3), (FORK, 0, 0), (FEED, 1, 2), (FEED, 0, 2), (FEED, 1, 1), (FEED, 0, 1)],
    [(FEED, 0, 2), (FORK, 0, 0), (FEED, 0, 1), (FEED, 1, 1), (FEED, 0, 1), (FEED, 1, 1)],
]


class Edits(NamedTuple):
    """The code under test, or a decoder of the bank."""

    make: Make
    step: Step
    crop: Callable[[Any, int], Any] | None
    fork: Callable[[Any], Any] | None


class Played(NamedTuple):
    """The result of a script: logits of all fed tokens, the expected ones, and the dtype."""

    script: Script
    got: Any
    expected: Any
    dtype: str


def choose_scripts(edits: Edits, window: int | None) -> list[Script]:
    """The scripts for the edits that there are. A window is rolled back by three tokens after it has been full."""
    scripts = [*CROPS] if edits.crop else []
    if edits.crop and window is not None:
        n = window + 4
        scripts.append([(FEED, 0, n - 2), (FEED, 0, 1), (FEED, 0, 1), (CROP, 0, n - 3), (FEED, 0, 1), (FEED, 0, 2)])
    return scripts + ([*FORKS] if edits.fork else [])


def play(edits: Edits, script: Script, ids: list[int], reference: Reference) -> Played:
    """Run a script on a new state; the ids are fed in order. UnreadableError: a call has no result to compare."""
    states, histories, at = [call(edits.make)], [list[int]()], 0
    got, expected, dtype = [], [], "float64"
    for action, which, count in script:
        if action == CROP:
            changed = call(edits.crop, states[which], count)  # type: ignore[arg-type]
            states[which] = states[which] if changed is None else changed
            histories[which] = histories[which][:count]
        elif action == FORK:
            states.append(call(edits.fork, states[which]))  # type: ignore[arg-type]
            histories.append(list(histories[which]))
        else:
            fed, at = ids[at : at + count], at + count
            logits, dtype = to_host(call(edits.step, states[which], list(fed)))
            if logits.shape != (count, reference.config.vocab_size):
                raise UnreadableError(
                    "step gave an array of shape {got}, expected [T, V] = {expected}",
                    got=list(logits.shape), expected=[count, reference.config.vocab_size],
                )  # fmt: skip
            before = [histories[which]] if histories[which] else []
            expected.append(reference.run([*before, list(fed)])[-count:])
            histories[which] = histories[which] + list(fed)
            got.append(logits)
    return Played(script, np.concatenate(got), np.concatenate(expected), dtype)


def assert_edits(
    make: Make, step: Step, reference: Any, *, crop: Callable[[Any, int], Any] | None = None,
    fork: Callable[[Any], Any] | None = None, seed: int = 0, allowed: float | None = None, dtype: str | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that logits are the reference's after a cache was cropped or forked between steps.

    `crop(state, length)` discards all tokens but the first `length`, in place or in a new state that it returns;
    `fork(state)` returns an independent state with the same contents. At least one is given. If the model has a window,
    it is rolled back by three tokens after it was full. Other options: `assert_policy`.

    OracleError: the logits are others; the mistake is named. UsageError: neither function, or a reference that cannot
    be used.
    """
    __tracebackhide__ = True
    if crop is None and fork is None:
        raise UsageError("assert_edits checks crop= or fork=: give at least one")
    exact, seed = Reference(reference), check_whole("seed", seed, 0)
    one = Edits(*(None if f is None else limited(f, seconds) for f in (make, step, crop, fork)))  # type: ignore[arg-type]
    window = next((kind.window for kind in exact.config.layers if kind.window is not None), None)
    generator, played = np.random.default_rng(seed), []
    texts = []
    for script in choose_scripts(one, window):
        count = sum(n for action, _, n in script if action == FEED)
        texts.append([int(i) for i in generator.integers(0, exact.config.vocab_size, count)])
        try:
            played.append(play(one, script, texts[-1], exact))
        except UnreadableError as error:
            raise OracleError(Failure(headlines=(error.problem,), compared=False)) from error
    name = format_name(dtype) if dtype else coarser(played[0].dtype, exact.dtype)
    own = 0.0 if allowed is not None else exact.own_error([[text] for text in texts], name)
    bound = allow(name, own, max(max_abs(p.expected) for p in played), allowed)
    failing = [p for p in played if not equal(p.got, p.expected, bound.value)]
    if failing:
        raise OracleError(describe(failing[0], bound, name_edits(played, texts, exact, bound)))


def name_edits(played: list[Played], texts: list[list[int]], exact: Reference, bound: Allowed) -> tuple[Mistake, ...]:
    """The mistakes that give the same logits in every script."""
    if not exact.covered:
        return ()
    return tuple(
        m for m in BANK.values() if m.edits and any(_gives(cls, played, texts, exact, bound) for cls in m.variants)
    )


def edits_of(cls: type[Decoder], exact: Reference) -> Edits:
    """A decoder of the bank."""
    return Edits(
        lambda: cls(exact.config, exact.weights), lambda d, ids: d.forward(ids),
        lambda d, length: d.crop(length), lambda d: d.fork(),
    )  # fmt: skip


def _gives(
    cls: type[Decoder], played: list[Played], texts: list[list[int]], exact: Reference, bound: Allowed
) -> bool:  # fmt: skip
    for one, text in zip(played, texts, strict=True):
        with np.errstate(all="ignore"):
            output = play(edits_of(cls, exact), one.script, text, exact).got
        if not equal(one.got, output, 2 * bound.value):
            return False
    return True


def describe(failed: Played, bound: Allowed, named: tuple[Mistake, ...]) -> Failure:
    """What differs, after which steps and edits."""
    steps = [f"{'ab'[which]}: {action}" + ("" if action == FORK else f" {n}") for action, which, n in failed.script]
    forked = any(action == FORK for action, *_ in failed.script)
    done = ", ".join(steps if forked else [step.removeprefix("a: ") for step in steps])
    headline = Problem(
        "logits differ from the reference, max |diff| {worst} ({allowed}), in the script: {script}",
        {"worst": f"{max_abs(failed.got - failed.expected):.3g}", "allowed": bound, "script": done},
    )
    return Failure(headlines=(headline,), named=named)
