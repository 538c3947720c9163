"""The checks of decoders: logits at every position, for every way of cutting a text into chunks."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from kvsim.caches.specs import parse_spec
from kvsim.checks import check_finite, check_list, check_number
from kvsim.errors import UsageError, shortened
from kvsim.testing.feeds.chunking import Texts, choose_feeds, make_text
from kvsim.testing.feeds.feeding import Make, More, Step, check_texts, nonfinite_problem, run_check, run_feed
from kvsim.testing.feeds.references import Reference
from kvsim.testing.subject.calls import Problem
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.subject.weights import ModelWeights
from kvsim.testing.verdict.decoders import describe_failure
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure
from kvsim.testing.verdict.layers import Layers
from kvsim.testing.verdict.text import short

Clear = Callable[[Any], Any] | bool | None


def assert_policy(
    make: Make, step: Step, reference: Any, policy: str, *, cases: int = 0, seed: int = 0,
    length: int = 0, allowed: float | None = None, dtype: str | None = None, layers: Layers | None = None,
    clear: Clear = None, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that the decoder's logits are those of kvsim's own run under that cache policy, at every position, however
    the text is cut into chunks.

    `make()` returns a fresh state, `step(state, ids)` logits [T, V] of the T ids; each call may take `seconds`.
    `layers(state)` returns the outputs of layers in the last step, [T, D] each, the first layer first, and as many as
    are visible: a failure then names the first layer that differs. `cases`: more feeds at random. `length`: one text
    has at least that many tokens (35 in any case, but under int8). `allowed`: replaces the difference that rounding
    explains. `dtype`: the least precise format in which the decoder computes, if its logits have another
    (transformers' Llama computes norms in float32). Under int8, texts are such that float32's rounding decides no code
    (`kvsim.testing.feeds.boundaries`).

    `clear(state)` empties a state for another text, which is then checked, too; by default a method of the state's own
    does, if it has reset, clear, reset_cache, clear_cache, reset_kv_cache or clear_kv_cache without arguments; False:
    nothing does.

    OracleError: the decoder is wrong; the mistake is named. UsageError: a reference or a policy that cannot be used, or
    that no feed would check.
    """
    __tracebackhide__ = True
    make, step = limited(make, seconds, "make"), limited(step, seconds, "step")
    shown = None if layers is None else limited(layers, seconds, "layers")
    emptied = limited(clear, seconds, "clear") if callable(clear) else clear
    check = run_check(make, step, Reference(reference, policy), Texts(cases, seed, length), allowed, dtype,
                      More(shown, emptied))  # fmt: skip
    if any(c.given.problem is not None or c.fails(check.allowed.value) for c in check.done):
        raise OracleError(describe_failure(check))


def assert_split_invariant(
    make: Make, step: Step, reference: Any, *, windows: Iterable[int | None] | None = None, cases: int = 0,
    seed: int = 0, length: int = 0, allowed: float | None = None, dtype: str | None = None,
    layers: Layers | None = None, clear: Clear = None, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that the decoder's logits are the reference's, at every position, however the text is cut into chunks.

    `windows`: the same for the model with each window; `make(weights)` is then called with its weights. Other options
    and errors: `assert_policy`.
    """
    __tracebackhide__ = True
    more: dict[str, Any] = {"cases": cases, "seed": seed, "allowed": allowed, "dtype": dtype, "seconds": seconds,
                            "length": length, "clear": clear, "layers": layers}  # fmt: skip
    if windows is None:
        assert_policy(make, step, reference, "dynamic", **more)
        return
    if not isinstance(reference, ModelWeights):
        raise UsageError("windows= makes weights for each window: reference must be made by kvsim.testing.weights")
    windows = check_list("windows", windows)
    if not windows:
        raise UsageError("windows= is empty: nothing would be checked; give at least one window, or None for none")
    for window in windows:
        weights = reference.with_window(window)
        assert_policy(lambda weights=weights: make(weights), step, weights, "dynamic", **more)


class Closeness(NamedTuple):
    """The largest |difference| of logits as a part of max|logit|, and the part of rows with the same most likely
    token."""

    logit_error: float
    top1: float


def assert_close_to(
    make: Make, step: Step, reference: Any, *, max_logit_error: float, min_top1: float = 0.0, policy: str = "dynamic",
    cases: int = 0, seed: int = 0, length: int = 0, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that a lossy cache is close to the model without it: no logit differs by more than `max_logit_error` ·
    max|logit|, and at least `min_top1` of the rows have the same most likely token.

    Feeds are long enough for the cache policy `policy` to have an effect. OracleError: it is not close. Other options
    and errors: `assert_policy`.
    """
    __tracebackhide__ = True
    parse_spec(policy)  # UsageError: unknown
    max_logit_error = check_finite("max_logit_error", max_logit_error, 0.0)
    if not 0 <= check_number("min_top1", min_top1) <= 1:
        raise UsageError("min_top1 is a part of the rows, from 0 to 1, got {got}", got=shortened(min_top1))
    make, step = limited(make, seconds, "make"), limited(step, seconds, "step")
    exact = Reference(reference)
    wanted = check_texts(Texts(cases, seed, length), exact.config.max_context)
    seed, chosen = wanted.seed, choose_feeds(exact.config, policy, *wanted)
    texts = [make_text(feed, n, exact.config.vocab_size, seed) for n, feed in enumerate(chosen)]
    found = measure_closeness(make, step, exact, texts)
    if found.logit_error <= max_logit_error and found.top1 >= min_top1:
        return
    headline = Problem(
        "logits under {policy} are {error} of max|logit| away from the reference, allowed {allowed}; the most likely"
        " token is the same in {top} of rows, expected {wanted}",
        {"policy": policy, "error": short(found.logit_error), "allowed": short(max_logit_error),
         "top": f"{found.top1:.3f}", "wanted": f"{min_top1:.3f}"},
    )  # fmt: skip
    raise OracleError(Failure(headlines=(headline,), numbers=found._asdict()))


def measure_closeness(make: Make, step: Step, exact: Reference, texts: list[list[list[int]]]) -> Closeness:
    """Over all rows of all texts. OracleError: a text gives no finite logits."""
    __tracebackhide__ = True
    worst, same, rows = 0.0, 0, 0
    for text in texts:
        given, expected = run_feed(make, step, text, exact), exact.run(text)
        if (problem := given.problem or nonfinite_problem(given.logits, text)) is not None:
            raise OracleError(Failure(headlines=(problem,), compared=False))
        error = np.abs(given.logits - expected).max() / np.abs(expected).max()
        worst = max(worst, float(error))
        same += int((given.logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
        rows += len(expected)
    return Closeness(worst, same / rows)
