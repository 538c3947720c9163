"""What is said of a decoder that failed: where it first differs, who depends on whom, which mistake, the least feed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.testing.feeds.feeding import Check, Compared, smallest_failing
from kvsim.testing.feeds.programme import chunks
from kvsim.testing.subject.calls import Problem, UnreadableError, first_blank, largest, run_text
from kvsim.testing.subject.weights import Sizes
from kvsim.testing.verdict.diagnosing import Chunks, Diagnosis, Suspects, Vote, diagnose
from kvsim.testing.verdict.failing import OracleError, ids_of, short, tell_allowed, tell_command, tell_diagnosis
from kvsim.testing.verdict.layers import first_differing, see_layers
from kvsim.testing.verdict.picture import LEGEND, draw
from kvsim.testing.verdict.sentences import tell


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
    """Who depends on whom, where that is not as it should be, and can be told: NaN does not change."""
    if first_blank(compared.given.logits) is not None:
        return []
    vocab, allowed = check.reference.config.vocab_size, check.allowed.value
    got = dependence(lambda t: run_text(check.make, check.step, t, vocab).logits, compared, vocab, allowed)
    expected = dependence(check.reference.run, compared, vocab, allowed)
    if got is None or np.array_equal(got, expected):
        return []
    names = [str(i) for i in range(len(got))]
    title = tell(lang, "who depends on whom (feed {feed}, one token changed at a time)", feed=list(compared.feed))
    return ["", f"  {title}   {tell(lang, LEGEND)}", *draw(lang, got, expected, names, names), ""]


def tell_unsteady(lang: str, check: Check, compared: Compared) -> list[str]:
    """That the same text gives other logits when it is fed again: no picture and no diagnosis then."""
    again = run_text(check.make, check.step, compared.text, check.reference.config.vocab_size).logits
    if again is None or first_blank(again) is not None or first_blank(compared.given.logits) is not None:
        return []
    apart = largest(again - compared.given.logits)
    if apart <= check.allowed.value:
        return []
    return ["  " + tell(
        lang,
        "not the same twice: fed the same text again, the logits differ by {apart}: dropout, noise, or a cache that is"
        " not reset",
        apart=short(apart),
    )]  # fmt: skip


def tell_first(lang: str, check: Check, compared: Compared) -> str:
    """The first of the logits that differs."""
    got, expected = compared.given.logits, compared.expected
    row, channel = (int(i) for i in np.argwhere(~(np.abs(got - expected) <= check.allowed.value))[0])
    step = int(np.searchsorted(np.cumsum(compared.feed), row, side="right"))
    return "  " + tell(
        lang,
        "first place: feed {feed}, step {step}, row {row} (token {token}, position {position}), channel {channel}: got"
        " {got}, expected {expected}",
        **_place(compared, step, row, channel, got, expected),
    )  # fmt: skip


def tell_layer(lang: str, check: Check, compared: Compared) -> list[str]:
    """The first of the visible layers that differs; nothing where none is visible."""
    if check.layers is None:
        return []
    try:
        seen = see_layers(check, compared, check.layers)
    except UnreadableError as error:
        return ["  " + tell(lang, error.problem.template, **error.problem.values)]
    place = first_differing(seen, compared.feed)
    if place is None:
        return ["  " + tell(
            lang, "first layer: none of the layers 0 to {last} differs: what comes after them does",
            last=len(seen.got) - 1,
        )]  # fmt: skip
    step, layer, row, channel = place
    return ["  " + tell(
        lang,
        "first layer: feed {feed}, step {step}, layer {layer} (from 0), row {row} (token {token}, position {position}),"
        " channel {channel} of what it gives: got {got}, expected {expected} ({allowed})",
        layer=layer, allowed=tell_allowed(lang, seen.allowed[layer]),
        **_place(compared, step, row, channel, seen.got[layer], seen.expected[layer]),
    )]  # fmt: skip


def _place(compared: Compared, step: int, row: int, channel: int, got: Any, expected: Any) -> dict[str, Any]:
    """A number's place, and what it is. Arrays have a row for each token of the text; steps count from 0."""
    ids = [i for chunk in compared.text for i in chunk]
    return {
        "feed": list(compared.feed), "step": step + 1, "row": row - sum(compared.feed[:step]), "token": ids[row],
        "position": row, "channel": channel, "got": f"{got[row, channel]:+.4f}",
        "expected": f"{expected[row, channel]:+.4f}",
    }  # fmt: skip


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
    worst = largest(np.concatenate([(c.given.logits - c.expected).ravel() for c in failing]))
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
    lines += [tell_first(lang, check, first), *tell_layer(lang, check, first)]
    unsteady = [] if alone else tell_unsteady(lang, check, first)
    lines += unsteady or ([] if alone else tell_dependence(lang, check, first))
    diagnosis = find_diagnosis(check)
    lines += tell_diagnosis(lang, diagnosis, check.reference.covered, unsteady=bool(unsteady))
    if alone:
        lines.append("  " + tell(lang, "after other texts: the same feed passed when it came first"))
    smallest = smallest_failing(check)
    lines.append("  " + tell(lang, "smallest : feed {feed}", feed=list(smallest or ())))
    if diagnosis is not None and diagnosis.candidates:
        lines.append(tell_command(lang, diagnosis, *command_of(check)))
    facts = {
        "diagnosis": ids_of(diagnosis), "smallest": list(smallest or ()), "max_abs_diff": worst, "allowed": allowed,
        "policy": check.reference.policy, "failing": [list(c.feed) for c in failing],
        "problem": [tell_problem(lang, p) for p in problems],
    }  # fmt: skip
    return OracleError("\n".join(lines), facts)
