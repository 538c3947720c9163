"""Decoders under test, compared at every position however they are fed; and what is said of those that differ."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.diagnosing import Chunks, Diagnosis, Suspects, Vote, diagnose
from kvsim.testing.failing import OracleError, ids_of, short, tell_allowed, tell_command, tell_diagnosis
from kvsim.testing.feeding import Check, Compared, Make, Step, blank, run_check, run_feed, smallest_failing
from kvsim.testing.foreign import Problem, first_blank, largest, run_text
from kvsim.testing.limits import SECONDS, limited
from kvsim.testing.model_weights import ModelWeights, Sizes
from kvsim.testing.picture import LEGEND, draw
from kvsim.testing.programme import chunks, feeds, text_of
from kvsim.testing.references import Reference
from kvsim.testing.sentences import language, tell


def find_diagnosis(check: Check) -> Diagnosis | None:
    """Which mistake of the bank; None where the independent decoder cannot be the model."""
    reference = check.reference
    if not reference.covered:
        return None
    votes = [Vote(c.expected, c.given.logits, check.allowed.value) for c in check.done]
    return diagnose(
        votes, Suspects(reference.config, reference.weights, reference.policy, [c.text for c in check.done])
    )


def dependence(run: Callable[[Chunks], Any], compared: Compared, vocab: int, allowed: float) -> Any:
    """[T, T]: does row t of the logits change when token j does?"""
    ids = [i for chunk in compared.text for i in chunk]
    before, columns = run(compared.text), []
    for j in range(len(ids)):
        other = [*ids[:j], (ids[j] + 1) % vocab, *ids[j + 1 :]]
        after = run(chunks(other, compared.feed))
        if before is None or after is None:
            return None
        with np.errstate(invalid="ignore"):
            columns.append(~(np.abs(after - before).max(axis=1) <= allowed))
    return np.stack(columns, axis=1)


def tell_dependence(lang: str, check: Check, compared: Compared) -> list[str]:
    """Who depends on whom, where that is not as it should be."""
    vocab, allowed = check.reference.config.vocab_size, check.allowed.value
    got = dependence(lambda t: run_text(check.make, check.step, t, vocab).logits, compared, vocab, allowed)
    expected = dependence(check.reference.run, compared, vocab, allowed)
    if got is None or np.array_equal(got, expected):
        return []
    names = [str(i) for i in range(len(got))]
    title = tell(lang, "who depends on whom (feed {feed}, one token changed at a time)", feed=list(compared.feed))
    return ["", f"  {title}   {tell(lang, LEGEND)}", *draw(lang, got, expected, names, names), ""]


def tell_first(lang: str, check: Check, compared: Compared) -> str:
    """The first number that differs."""
    got, expected = compared.given.logits, compared.expected
    row, channel = np.argwhere(~(np.abs(got - expected) <= check.allowed.value))[0]
    ends = np.cumsum(compared.feed)
    step = int(np.searchsorted(ends, row, side="right"))
    ids = [i for chunk in compared.text for i in chunk]
    return "  " + tell(
        lang,
        "first place: feed {feed}, step {step}, row {row} (token {token}, position {position}), channel {channel}: got"
        " {got}, expected {expected}",
        feed=list(compared.feed), step=step + 1, row=int(row - ends[step] + compared.feed[step]), token=ids[row],
        position=int(row), channel=int(channel), got=f"{got[row, channel]:+.4f}",
        expected=f"{expected[row, channel]:+.4f}",
    )  # fmt: skip


def command_of(check: Check) -> tuple[dict[str, Any], bool]:
    """The options of `kvsim explain`, and whether they make the same weights and texts."""
    config, given = check.reference.config, check.reference.given
    window = next((k.window for k in config.layers if k.window is not None), None)
    options: dict[str, Any] = {"heads": config.n_heads, "kv-heads": config.n_kv_heads, "window": window}
    options |= {"layers": config.n_layers if config.n_layers != Sizes.layers else None,
                "d-head": config.d_head if config.d_head != Sizes.d_head else None,
                "cases": check.cases or None, "seed": check.seed}  # fmt: skip
    sizes = Sizes(config.n_layers, config.n_heads, config.n_kv_heads, config.d_head, window)
    same = given is not None and (given.config, given.seed) == (sizes, check.seed)
    return options, same


def tell_blank(lang: str, check: Check) -> list[str]:
    """Numbers that are not finite."""
    for compared in check.done:
        if compared.given.logits is not None and (place := first_blank(compared.given.logits)) is not None:
            return [tell(
                lang,
                "the result holds {value} at {place} (feed {feed}), where the reference is finite: a query that sees"
                " nothing, or an overflow",
                value=compared.given.logits[place], place=list(place), feed=list(compared.feed),
            )]  # fmt: skip
    return []


def tell_problem(lang: str, problem: Problem) -> str:
    what = tell(lang, problem.template, **problem.values)
    return tell(lang, "{what} (feed {feed}, step {step})", what=what, **{
        name: problem.values[name] for name in ("feed", "step")
    })  # fmt: skip


def fail(check: Check, lang: str) -> OracleError:
    """The error that says it all."""
    allowed, failing = check.allowed.value, [c for c in check.done if c.fails(check.allowed.value)]
    problems = [c.given.problem for c in check.done if c.given.problem is not None]
    lines = [tell_problem(lang, problems[0])] if problems else []
    if not failing or any(problem.last for problem in problems):
        lines = [tell_problem(lang, problem) for problem in problems if problem.last] or lines
        raised = {problem.values.get("raised") for problem in problems}
        facts = {"problem": lines, "diagnosis": [], "unwritten": raised == {NotImplementedError} and not any(
            c.given.logits is not None for c in check.done)}  # fmt: skip
        return OracleError("\n".join(lines), facts)
    wrong = [~(np.abs(c.given.logits - c.expected) <= allowed) for c in failing]
    worst = max(largest(c.given.logits - c.expected) for c in failing)
    template = (
        "logits differ from the reference: {count} of {total} values in {failing} of {feeds} feeds, max |diff| {worst}"
        " ({allowed})"
    )
    if check.reference.policy != "dynamic":
        template = template.replace("logits differ", "logits under {policy} differ")
    lines += tell_blank(lang, check) or [tell(
        lang, template, policy=check.reference.policy, count=sum(int(w.sum()) for w in wrong),
        total=sum(w.size for w in wrong), failing=len(failing), feeds=len(check.done), worst=f"{worst:.3g}",
        allowed=tell_allowed(lang, check.allowed),
    )]  # fmt: skip
    first = failing[0]
    alone = not check.done[0].fails(allowed) and check.done[-1].fails(allowed)  # what was fed before matters
    lines.append(tell_first(lang, check, first))
    lines += [] if alone else tell_dependence(lang, check, first)
    diagnosis = find_diagnosis(check)
    lines += tell_diagnosis(lang, diagnosis, check.reference.covered)
    if alone:
        lines.append("  " + tell(lang, "after other texts: the same feed passed when it came first"))
    smallest = smallest_failing(check)
    lines.append("  " + tell(lang, "smallest : feed {feed}", feed=list(smallest or ())))
    if diagnosis is not None and diagnosis.candidates:
        lines.append(tell_command(lang, diagnosis, *command_of(check)))
    facts = {
        "diagnosis": ids_of(diagnosis), "smallest": list(smallest or ()), "max_abs_diff": worst, "allowed": allowed,
        "policy": check.reference.policy, "failing": [list(c.feed) for c in failing],
        "problem": [tell_problem("en", p) for p in problems],
    }  # fmt: skip
    return OracleError("\n".join(lines), facts)


def assert_policy(
    make: Make, step: Step, reference: Any, policy: str, *, cases: int = 0, seed: int = 0,
    allowed: float | None = None, dtype: str | None = None, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Is the decoder kvsim's own run under that cache policy, at every position, however the text is cut?

    `make()` gives a fresh state, `step(state, ids)` logits [T, V] of the tokens fed; each call may take `seconds`.
    OracleError: no, and the mistake's name; UsageError: a reference or a policy that makes no sense.
    """
    __tracebackhide__ = True
    make, step = limited(make, seconds), limited(step, seconds)
    check = run_check(make, step, Reference(reference, policy), cases, seed, allowed, dtype)
    if any(c.given.problem is not None or c.fails(check.allowed.value) for c in check.done):
        raise fail(check, language())


def assert_split_invariant(
    make: Make, step: Step, reference: Any, *, windows: Iterable[int | None] | None = None, cases: int = 0,
    seed: int = 0, allowed: float | None = None, dtype: str | None = None, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Does the decoder give the reference's logits, at every position, however the text is cut into chunks?

    `windows`: the same for each window; `make` is then given the weights. `allowed`: instead of what rounding in the
    dtype explains. Raises as `assert_policy`.
    """
    __tracebackhide__ = True
    more: dict[str, Any] = {"cases": cases, "seed": seed, "allowed": allowed, "dtype": dtype, "seconds": seconds}
    if windows is None:
        assert_policy(make, step, reference, "dynamic", **more)
        return
    if not isinstance(reference, ModelWeights):
        raise UsageError("windows= makes weights for each window: reference must be made by kvsim.testing.weights")
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
