"""The sentences of a failed check, in the language of `say`; `sections.py` puts them in order."""

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
    LayerPlace,
    LogitPlace,
    Mismatch,
    OutputPlace,
)


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


def say_no_mistake(say: Say) -> str:
    return say("no single mistake of the bank gives this output (two at once are often not named)")


def say_smallest(f: DecoderFailure, say: Say) -> str:
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


def say_smallest_call(f: AttentionFailure, say: Say) -> str:
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


def show_place(place: LogitPlace | OutputPlace) -> dict[str, Any]:
    """A place as a message shows it."""
    values = place._asdict() | {"got": f"{place.got:+.4f}".replace("+nan", "nan"), "expected": f"{place.expected:+.4f}"}
    if isinstance(place, LogitPlace):
        return values | {"feed": list(place.feed)}
    return values | {"token": repr(place.token)}


def show_difference(f: Mismatch, say: Say) -> dict[str, Any]:
    return {"count": f.difference.wrong, "total": f.difference.total, "worst": f"{f.difference.largest:.3g}",
            "allowed": describe_allowed(f.allowed, say)}  # fmt: skip


def say_logits_differ(f: DecoderFailure, say: Say) -> str:
    values = show_difference(f, say) | {"policy": f.policy, "failing": len(f.failing), "feeds": f.n_feeds}
    if f.policy == "dynamic":
        return say(
            "logits differ from the reference: {count} of {total} values in {failing} of {feeds} feeds, max |diff|"
            " {worst} ({allowed})"
        ).format(**values)
    return say(
        "logits under {policy} differ from the reference: {count} of {total} values in {failing} of {feeds} feeds, max"
        " |diff| {worst} ({allowed})"
    ).format(**values)


def say_logits_blank(blank: Blank, say: Say) -> str:
    return say(
        "the result holds {value} at {place} (feed {feed}), where the reference is finite: a query that sees nothing,"
        " or an overflow"
    ).format(value=blank.value, place=list(blank.at), feed=list(blank.sizes))


def say_output_blank(blank: Blank, say: Say) -> str:
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


def say_layer(found: LayerPlace | Problem, say: Say) -> str:
    if isinstance(found, Problem):
        return sentence(found, say)
    if found.place is None or found.allowed is None:
        return say("first layer: none of the layers 0 to {last} differs: the difference comes after them").format(
            last=found.last
        )
    return say(
        "first layer: feed {feed}, step {step}, layer {layer} (from 0), row {row} (token {token}, position {position}),"
        " channel {channel} of its output: got {got}, expected {expected} ({allowed})"
    ).format(layer=found.layer, allowed=describe_allowed(found.allowed, say), **show_place(found.place))


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
        why = say_no_mistake(say)
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


def say_command(f: Mismatch, say: Say) -> list[str]:
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
