"""Decoders under test, compared at every position however they are fed."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kvsim.caches.specs import parse_spec
from kvsim.errors import UsageError
from kvsim.testing.feeds.feeding import Make, Step, blank, run_check, run_feed
from kvsim.testing.feeds.programme import feeds, text_of
from kvsim.testing.feeds.references import Reference
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.subject.weights import ModelWeights
from kvsim.testing.verdict.decoders import fail, tell_problem
from kvsim.testing.verdict.failing import OracleError, short
from kvsim.testing.verdict.layers import Layers
from kvsim.testing.verdict.sentences import language, tell


def assert_policy(
    make: Make, step: Step, reference: Any, policy: str, *, cases: int = 0, seed: int = 0,
    allowed: float | None = None, dtype: str | None = None, layers: Layers | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Is the decoder kvsim's own run under that cache policy, at every position, however the text is cut?

    `make()` gives a fresh state, `step(state, ids)` logits [T, V] of the tokens fed; each call may take `seconds`.
    `layers(state)`, where there is one, shows what each layer gave in the last step, [T, D] each, the first layer first
    and no more than are visible: a failure then names the first that differs. `dtype`: the least precise that the
    decoder computes in anywhere, where its logits have another (transformers' Llama takes norms in float32). Under
    int8, texts are such that float32's rounding decides no code: see `kvsim.testing.feeds.boundaries`.

    OracleError: no, and the mistake's name. UsageError: a reference or a policy that makes no sense, or that would not
    be checked.
    """
    __tracebackhide__ = True
    make, step = limited(make, seconds), limited(step, seconds)
    shown = None if layers is None else limited(layers, seconds)
    check = run_check(make, step, Reference(reference, policy), cases, seed, allowed, dtype, shown)
    if any(c.given.problem is not None or c.fails(check.allowed.value) for c in check.done):
        raise fail(check, language())


def assert_split_invariant(
    make: Make, step: Step, reference: Any, *, windows: Iterable[int | None] | None = None, cases: int = 0,
    seed: int = 0, allowed: float | None = None, dtype: str | None = None, layers: Layers | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Does the decoder give the reference's logits, at every position, however the text is cut into chunks?

    `windows`: the same for each window; `make` is then given the weights. `allowed`: instead of what rounding in the
    dtype explains. `layers`, and what is raised, as in `assert_policy`.
    """
    __tracebackhide__ = True
    more: dict[str, Any] = {"cases": cases, "seed": seed, "allowed": allowed, "dtype": dtype, "seconds": seconds,
                            "layers": layers}  # fmt: skip
    if windows is None:
        assert_policy(make, step, reference, "dynamic", **more)
        return
    if not isinstance(reference, ModelWeights):
        raise UsageError("windows= makes weights for each window: reference must be made by kvsim.testing.weights")
    windows = list(windows)
    if not windows:
        raise UsageError("windows= is empty: nothing would be checked; give at least one window, or None for none")
    for window in windows:
        weights = reference.with_window(window)
        assert_policy(lambda weights=weights: make(weights), step, weights, "dynamic", **more)


def assert_close_to(
    make: Make, step: Step, reference: Any, *, max_logit_error: float, min_top1: float = 0.0, policy: str = "dynamic",
    cases: int = 0, seed: int = 0, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Is a lossy cache close to the model without it: at every position within `max_logit_error` · max|logit|, and with
    the same most likely token in at least `min_top1` of the rows? Feeds are as long as `policy` needs to show.

    OracleError: no. Raises as `assert_policy`.
    """
    __tracebackhide__ = True
    parse_spec(policy)  # refuses what is none
    lang, exact, make, step = language(), Reference(reference), limited(make, seconds), limited(step, seconds)
    chosen = feeds(exact.config, policy, cases, seed)
    texts = [text_of(feed, n, exact.config.vocab_size, seed) for n, feed in enumerate(chosen)]
    worst, same, rows = 0.0, 0, 0
    for text in texts:
        given, expected = run_feed(make, step, text, exact), exact.run(text)
        if (problem := given.problem or blank(given.logits, text)) is not None:
            raise OracleError(tell_problem(lang, problem), {"problem": [problem.template], "diagnosis": []})
        error = np.abs(given.logits - expected).max() / np.abs(expected).max()
        worst = max(worst, float(error))
        same += int((given.logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
        rows += len(expected)
    if not worst <= max_logit_error or same / rows < min_top1:
        message = tell(
            lang,
            "logits under {policy} are {error} of max|logit| away from the reference, allowed {allowed}; the most"
            " likely token is the same in {top} of rows, expected {wanted}",
            policy=policy, error=short(worst), allowed=short(max_logit_error), top=f"{same / rows:.3f}",
            wanted=f"{min_top1:.3f}",
        )  # fmt: skip
        raise OracleError(message, {"diagnosis": [], "logit_error": worst, "top1": same / rows})
