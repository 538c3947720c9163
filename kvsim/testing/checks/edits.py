"""The check of caches that are cropped, forked and put in another order between steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kvsim.checks import check_flag, check_whole
from kvsim.errors import UsageError
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.feeds.feeding import Make, Step, refuse_unchecked
from kvsim.testing.feeds.known_runs import KNOWN
from kvsim.testing.feeds.references import Allowed, Reference, allow, coarser
from kvsim.testing.feeds.scripts import (
    BEAMS,
    CROP,
    FEED,
    FORK,
    LONGEST,
    REORDER,
    Edits,
    Played,
    Script,
    choose_scripts,
    count_ids,
    play,
    tokens_of,
)
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rounding import format_name
from kvsim.testing.subject.calls import Problem, UnreadableError, equal, max_abs
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure


def assert_edits(
    make: Make, step: Step, reference: Any, *, crop: Callable[[Any, int], Any] | None = None,
    fork: Callable[[Any], Any] | None = None, reorder: Callable[[Any, list[int]], Any] | None = None,
    batched: bool = False, seed: int = 0, allowed: float | None = None, dtype: str | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that logits are the reference's after caches were cropped, forked or put in another order between steps.

    `crop(state, length)` discards all tokens but the first `length`, in place or in a new state that it returns;
    `fork(state)` returns an independent state with the same contents; `reorder(states, order)` gives, in place or in a
    list that it returns, independent states, the one at place i with the contents of `states[order[i]]`. At least one
    is given. If the model has a window, it is rolled back by three tokens after it was full.

    `batched`: a state holds 3 sequences; `step(state, rows)` takes a list of ids for each, all of one length, and gives
    [3, T, V]; `reorder(state, order)` moves the sequences of one state. Other options: `assert_policy`.

    OracleError: the logits are others; the mistake is named. UsageError: none of the functions, or a reference that
    cannot be used.
    """
    __tracebackhide__ = True
    if crop is None and fork is None and reorder is None:
        raise UsageError("assert_edits checks crop=, fork= or reorder=: give at least one")
    exact, seed = Reference(reference), check_whole("seed", seed, 0)
    functions = {"make": make, "step": step, "crop": crop, "fork": fork, "reorder": reorder}
    timed = {name: None if f is None else limited(f, seconds, name) for name, f in functions.items()}
    one = Edits(**timed, batched=check_flag("batched", batched))  # type: ignore[arg-type]
    window = next((kind.window for kind in exact.config.layers if kind.window is not None), None)
    scripts = choose_scripts(one, window)
    if (needed := max(map(tokens_of, scripts))) > (most := min(LONGEST, exact.config.max_context)):
        refuse_unchecked(exact, needed)
        scripts = [script for script in scripts if tokens_of(script) <= most]
    played, error = run_scripts(one, scripts, exact, seed)
    name = format_name(dtype) if dtype else coarser(played[0].dtype if played else exact.dtype, exact.dtype)
    own = 0.0 if allowed is not None else exact.own_error([[text] for p in played for text in p.texts], name)
    bound = allow(name, own, max((max_abs(p.expected) for p in played), default=0.0), allowed)
    failing = [p for p in played if not equal(p.got, p.expected, bound.value)]
    if failing:
        named = name_edits(one, played, exact, bound)
        raise OracleError(describe(failing, len(played), one.batched, bound, named))
    if error is not None:
        unwritten = error.values.get("raised") is NotImplementedError
        raise OracleError(Failure(headlines=(error,), compared=False, unwritten=unwritten))


def run_scripts(
    one: Edits, scripts: list[Script], exact: Reference, seed: int
) -> tuple[list[Played], Problem | None]:  # fmt: skip
    """The results of the scripts, up to the first call without a result to compare, and its problem."""
    generator = np.random.default_rng(seed)
    played: list[Played] = []
    for script in scripts:
        ids = [int(i) for i in generator.integers(0, exact.config.vocab_size, count_ids(one, script))]
        try:
            played.append(play(one, script, ids, exact))
        except UnreadableError as error:
            return played, error.problem
        if (changed := exact.changed_weight()) is not None:
            return [], Problem("the weights were changed by make or step: {name}", {"name": changed})
    return played, None


def name_edits(one: Edits, played: list[Played], exact: Reference, bound: Allowed) -> tuple[Mistake, ...]:
    """The mistakes in one of these edits that give the same logits in every script."""
    if not exact.covered:
        return ()
    known = [m for m in BANK.values() if m.edits and getattr(one, m.edits)]
    return tuple(m for m in known if any(_gives(cls, one.batched, played, exact, bound) for cls in m.variants))


def edits_of(cls: type[Decoder], exact: Reference, batched: bool = False) -> Edits:
    """A decoder of the bank; BEAMS of them as one state if `batched`."""

    def make() -> Decoder:
        return cls(exact.config, exact.weights)

    if not batched:
        return Edits(make, lambda d, ids: d.forward(ids), lambda d, length: d.crop(length), lambda d: d.fork(),
                     cls.reorder)  # fmt: skip

    def crop(beams: list[Decoder], length: int) -> None:
        for decoder in beams:
            decoder.crop(length)

    return Edits(
        lambda: [make() for _ in range(BEAMS)],
        lambda beams, rows: np.stack([d.forward(ids) for d, ids in zip(beams, rows, strict=True)]),
        crop, lambda beams: [d.fork() for d in beams], cls.reorder, batched=True,
    )  # fmt: skip


def _gives(cls: type[Decoder], batched: bool, played: list[Played], exact: Reference, bound: Allowed) -> bool:
    """Whether a reading gives the logits of every script. What it gives is memoised for the process."""
    for one in played:
        key = (cls, *exact.model_key, batched, tuple(one.script), tuple(one.ids))
        made = KNOWN.get(key, partial(_play_reading, cls, batched, one, exact))[0]
        if made is None or not equal(one.got, made, 2 * bound.value):
            return False
    return True


def _play_reading(cls: type[Decoder], batched: bool, one: Played, exact: Reference) -> list[Any]:
    """The logits of a reading for a script; None if it raises."""
    try:
        with np.errstate(all="ignore"):
            return [play(edits_of(cls, exact, batched), one.script, one.ids, exact).got]
    except UnreadableError:
        return [None]


def describe(
    failing: list[Played], total: int, batched: bool, bound: Allowed, named: tuple[Mistake, ...]
) -> Failure:  # fmt: skip
    """What differs, after which steps and edits, in the first of the `total` scripts that fail."""
    failed, counts = failing[0], {"count": len(failing), "total": total}
    calls = write(failed.script, batched)
    headline = Problem(
        "logits differ from the reference in {count} of {total} scripts, max |diff| {worst} ({allowed}), first in the"
        " script: {script}",
        {
            **counts,
            "worst": f"{max_abs(failed.got - failed.expected):.3g}",
            "allowed": bound,
            "script": "; ".join(calls),
        },
    )
    wrong = ~(np.abs(failed.got - failed.expected) <= bound.value).all(axis=1)
    act = calls[failed.acts[int(np.argmax(wrong))] + 1]
    first = Problem("the first wrong logits are those of {act}", {"act": act})
    return Failure(headlines=(headline,), notes=(first,), named=named)


def write(script: Script, batched: bool) -> list[str]:
    """The calls of a script, the first make included. States are a, b and c."""
    calls, made, fed = ["a = make()"], 1, 0
    for act, which, detail in script:
        state, new = "abc"[which], "abc"[min(made, 2)]
        if act == FEED:
            ids = f"{fed}:{fed + detail}"
            calls.append(f"step({state}, ids[:, {ids}])" if batched else f"step({state}, ids[{ids}])")
            fed += detail
        elif act == CROP:
            calls.append(f"crop({state}, {detail})")
        elif act == REORDER:
            states = state if batched else "[a, b, c]"
            calls.append(f"{states} = reorder({states}, {list(detail)})")
        else:
            calls.append(f"{new} = fork({state})" if act == FORK else f"{new} = make()")
            made += 1
    return calls
