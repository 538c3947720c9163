"""A failed check as text, in the language of `say`."""

import os
from typing import Any

from kvsim.i18n.language import Say, choose_language, language_of, words
from kvsim.testing.feeds.references import Allowed
from kvsim.testing.subject.calls import Problem
from kvsim.testing.verdict.failure import (
    AttentionFailure,
    Blank,
    Candidate,
    DecoderFailure,
    Diagnosis,
    Failure,
    LayerPlace,
    LogitPlace,
    Mismatch,
    OutputPlace,
)
from kvsim.testing.verdict.known import describe_known
from kvsim.testing.verdict.picture import describe_buffer, draw_dependence, draw_weights


def speak() -> Say:
    """The words of the language that KVSIM_LANG says, else the locale. A check has no other way to be given one."""
    return words(choose_language(None, os.environ))


def sentence(problem: Problem, say: Say) -> str:
    """A problem's message, with the feed or the sizes in which it came up if it has them."""
    values = {name: _value(x, say) for name, x in problem.values.items()}
    what = say(problem.template).format(**values)
    if "step" in values:
        return say("{what} (feed {feed}, step {step})").format(what=what, feed=values["feed"], step=values["step"])
    if "queries" in values:
        return say("{what} ({queries} queries, {keys} keys)").format(
            what=what, queries=values["queries"], keys=values["keys"]
        )
    return what


def _value(x: Any, say: Say) -> Any:
    """A value of a message, in words if it is more than a number or text."""
    if isinstance(x, Allowed):
        return describe_allowed(x, say)
    return sentence(x, say) if isinstance(x, Problem) else x


def short(value: float) -> str:
    """A measured number in two digits."""
    return f"{value:.1e}" if value else "0"


def render(failure: Failure, say: Say) -> str:
    """The whole text, in one or several lines."""
    if isinstance(failure, DecoderFailure):
        return "\n".join(_decoder(failure, say))
    if isinstance(failure, AttentionFailure):
        return "\n".join(_attention(failure, say))
    lines = [sentence(problem, say) for problem in failure.headlines]
    lines += ["  " + sentence(note, say) for note in failure.notes]
    if failure.named is not None:
        named = [f"[{m.id}] {m.sentence(language_of(say))}" for m in failure.named]
        lines += ["  " + say("diagnosis: ") + one for one in named or [f"[unknown] {_no_mistake(say)}"]]
        known = [m.id for m in failure.named[:1] if m.variants]  # those of an exercise are not in the bank
        lines += ["  " + say("similar  : {command}").format(command=f"kvsim explain {id}") for id in known]
    return "\n".join(lines)


def _no_mistake(say: Say) -> str:
    return say("no single mistake of the bank gives this output (two at once are often not named)")


def _decoder(f: DecoderFailure, say: Say) -> list[str]:
    """Where a decoder first differs, which positions depend on which, the mistake, the smallest feed."""
    lines = [sentence(problem, say) for problem in f.problems[:1]]
    lines.append(_logits_blank(f.blank, say) if f.blank else _logits_differ(f, say))
    lines.append("  " + say(
        "first place: feed {feed}, step {step}, row {row} (token {token}, position {position}), channel {channel}: got"
        " {got}, expected {expected}"
    ).format(**_values(f.first)))  # fmt: skip
    if f.layer is not None:
        lines.append("  " + _layer(f.layer, say))
    if f.unsteady is not None:
        lines.append("  " + say(
            "not deterministic: fed the same text again, the logits differ by {apart}: dropout, noise, or a cache that"
            " is not reset"
        ).format(apart=short(f.unsteady)))  # fmt: skip
    if f.dependence is not None:
        lines += draw_dependence(f.dependence, say)
    if f.unsteady is not None and not (f.diagnosis and f.diagnosis.candidates):
        why = say("code that is not deterministic cannot be compared with a mistake")
        lines.append("  " + say("diagnosis: ") + f"[unknown] {why}")
    else:
        lines += describe_diagnosis(f.diagnosis, say) + describe_known(f.known, say)
    if f.after_others:
        lines.append("  " + say("only after other texts: the same feed passed when it was the first"))
    if f.after_clear:
        lines.append("  " + say(
            "only where an object is used again after {name}(): texts fed to a new one pass"
        ).format(name=f.after_clear))  # fmt: skip
    return [*lines, "  " + _smallest(f, say), *_command(f, say)]


def _attention(f: AttentionFailure, say: Say) -> list[str]:
    """Where an attention output first differs, which keys each query sees, the mistake, the smallest sizes."""
    lines = [sentence(problem, say) for problem in f.problems[:1]]
    if f.blank:
        lines.append(_output_blank(f.blank, say))
    else:
        lines.append(say(
            "attention output differs from the reference: {count} of {total} values, max |diff| {worst} ({allowed})"
        ).format(**_difference(f, say)))  # fmt: skip
    lines.append("  " + say(
        "first place: head {head}, query {query} (token {token}, position {position}), channel {channel}: got {got},"
        " expected {expected}"
    ).format(**_values(f.first)))  # fmt: skip
    if f.buffer is not None:
        lines.append("  " + describe_buffer(f.buffer, say))
    if not f.linear:
        said = say("the output is not linear in V: the attention weights are not applied to V")
        lines += ["", "  " + said, ""]
    elif f.weights is not None:
        lines += draw_weights(f.weights, say)
    lines += describe_diagnosis(f.diagnosis, say)
    if f.only_nan:
        lines.append("  " + say(
            "only where rows that were never written hold NaN: 0 x NaN is NaN; nan=False leaves that out, for buffers"
            " that are made of zeros"
        ))  # fmt: skip
    return [*lines, "  " + _smallest_call(f, say), *_command(f, say)]


def _smallest(f: DecoderFailure, say: Say) -> str:
    """The smallest feed that fails and what was searched; if the search found none, the shortest of those fed."""
    feed, searched, _ = f.smallest
    if feed is not None:
        return say("smallest : feed {feed}").format(feed=list(feed)) + _smaller(f, say)
    shortest = min(f.failing, key=lambda feed: (sum(feed), len(feed), feed))
    if f.after_clear:
        return say("shortest : feed {feed}, after {name}()").format(feed=list(shortest), name=f.after_clear)
    return say("shortest : feed {feed} of those fed; no feed of up to {searched} tokens fails").format(
        feed=list(shortest), searched=searched
    )


def _smaller(f: Mismatch, say: Say) -> str:
    """What is known of all smaller feeds."""
    if f.smallest.unread:
        return say(" (every smaller one passes or gives nothing to compare)")
    return say(" (every smaller one passes)")


def _smallest_call(f: AttentionFailure, say: Say) -> str:
    """The same of an attention function."""
    sizes, searched, _ = f.smallest
    if sizes is not None:
        return say("smallest : feed {feed} (queries: {queries}, keys: {keys})").format(
            feed=chunks_of(*sizes), queries=sizes[0], keys=sizes[1]
        ) + _smaller(f, say)
    queries, keys = min(f.failing, key=lambda sizes: sizes[::-1])
    return say(
        "shortest : {queries} queries, {keys} keys of the calls made; none of up to {searched} keys fails"
    ).format(queries=queries, keys=keys, searched=searched)  # fmt: skip


def chunks_of(n_queries: int, n_keys: int) -> list[int]:
    """The chunks of a text whose last step has `n_queries` queries over `n_keys` keys."""
    return [n_keys] if n_queries == n_keys else [n_keys - n_queries, n_queries]


def _values(place: LogitPlace | OutputPlace) -> dict[str, Any]:
    """A place as a message shows it."""
    values = place._asdict() | {"got": f"{place.got:+.4f}".replace("+nan", "nan"), "expected": f"{place.expected:+.4f}"}
    if isinstance(place, LogitPlace):
        return values | {"feed": list(place.feed)}
    return values | {"token": repr(place.token)}


def _difference(f: Mismatch, say: Say) -> dict[str, Any]:
    return {"count": f.difference.wrong, "total": f.difference.total, "worst": f"{f.difference.largest:.3g}",
            "allowed": describe_allowed(f.allowed, say)}  # fmt: skip


def _logits_differ(f: DecoderFailure, say: Say) -> str:
    values = _difference(f, say) | {"policy": f.policy, "failing": len(f.failing), "feeds": f.n_feeds}
    if f.policy == "dynamic":
        return say(
            "logits differ from the reference: {count} of {total} values in {failing} of {feeds} feeds, max |diff|"
            " {worst} ({allowed})"
        ).format(**values)
    return say(
        "logits under {policy} differ from the reference: {count} of {total} values in {failing} of {feeds} feeds, max"
        " |diff| {worst} ({allowed})"
    ).format(**values)


def _logits_blank(blank: Blank, say: Say) -> str:
    return say(
        "the result holds {value} at {place} (feed {feed}), where the reference is finite: a query that sees nothing,"
        " or an overflow"
    ).format(value=blank.value, place=list(blank.at), feed=list(blank.sizes))


def _output_blank(blank: Blank, say: Say) -> str:
    queries, keys = blank.sizes
    return say(
        "the result holds {value} at {place} ({queries} queries, {keys} keys), where the reference is finite: a query"
        " that sees nothing, or an overflow"
    ).format(value=blank.value, place=list(blank.at), queries=queries, keys=keys)


def describe_allowed(allowed: Allowed, say: Say) -> str:
    """The allowed difference, and what it is made of."""
    if allowed.given is not None:
        return say("allowed {value}, given by the caller").format(value=short(allowed.given))
    return say("allowed {value} = 2 x the reference's own {dtype} error {own} + {floor}").format(
        value=short(allowed.value), dtype=allowed.dtype, own=short(allowed.own), floor=short(allowed.floor)
    )


def _layer(found: LayerPlace | Problem, say: Say) -> str:
    if isinstance(found, Problem):
        return sentence(found, say)
    if found.place is None or found.allowed is None:
        return say("first layer: none of the layers 0 to {last} differs: the difference comes after them").format(
            last=found.last
        )
    return say(
        "first layer: feed {feed}, step {step}, layer {layer} (from 0), row {row} (token {token}, position {position}),"
        " channel {channel} of its output: got {got}, expected {expected} ({allowed})"
    ).format(layer=found.layer, allowed=describe_allowed(found.allowed, say), **_values(found.place))


def describe_diagnosis(diagnosis: Diagnosis | None, say: Say) -> list[str]:
    """The mistake and its evidence; if none explains every feed, the nearest one."""
    head = "  " + say("diagnosis: ")
    if diagnosis is None:
        why = say("the independent decoder does not cover this model, so no mistakes could be tried")
        return [f"{head}[unknown] {why}"]
    if diagnosis.candidates:
        named = [_named(c, language_of(say)) for c in diagnosis.candidates]
        return [head + f" {say('or')} ".join(named), "  " + _evidence(diagnosis, diagnosis.candidates[0], say)]
    if diagnosis.blank:
        why = say(
            "all wrong numbers are NaN or infinite, and many mistakes give that: a query that sees nothing, as"
            " under a strict mask, or an overflow"
        )
    else:
        why = _no_mistake(say)
    return [f"{head}[unknown] {why}", *_nearest(diagnosis, say)]


def _named(c: Candidate, language: str) -> str:
    """A mistake and, if it is made only in some steps, in which."""
    where = "" if c.path is None else ("；" if language == "zh" else "; ") + c.path.sentence(language)
    return f"[{c.mistake.id}] {c.mistake.sentence(language)}{where}"


def _votes(diagnosis: Diagnosis, candidate: Candidate) -> dict[str, Any]:
    return {"matched": candidate.failing, "failing": diagnosis.n_failing, "others": candidate.all - candidate.failing,
            "passing": diagnosis.n_all - diagnosis.n_failing}  # fmt: skip


def _evidence(diagnosis: Diagnosis, best: Candidate, say: Say) -> str:
    return say(
        "evidence : equals the reference with this one mistake on all {values} values, in {matched} of {failing}"
        " failing feeds, and in {others} of {passing} others"
    ).format(values=best.values, **_votes(diagnosis, best))


def _nearest(diagnosis: Diagnosis, say: Say) -> list[str]:
    if diagnosis.nearest is None:
        return []
    return ["  " + say(
        "nearest  : {id} gives the same in {matched} of {failing} failing feeds and {others} of {passing} others: it is"
        " not that mistake, or not that one alone"
    ).format(id=diagnosis.nearest.mistake.id, **_votes(diagnosis, diagnosis.nearest))]  # fmt: skip


def _command(f: Mismatch, say: Say) -> list[str]:
    """The command that shows the mistake by itself: the same numbers, or the same mistake with other weights."""
    if f.diagnosis is None or not f.diagnosis.candidates:
        return []
    best = f.diagnosis.candidates[0]
    parts = [f"kvsim explain {best.mistake.id}"]
    for name, value in (f.command.options | {"reading": best.reading if best.reading > 1 else None}).items():
        if value is True:
            parts.append(f"--{name}")
        elif value is not None and value is not False:
            parts.append(f"--{name} {value}")
    template = say("reproduce: {command}") if f.command.same else say("similar  : {command}")
    return ["  " + template.format(command=" ".join(parts))]
