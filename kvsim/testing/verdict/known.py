"""What can be said of a decoder whose mistake is unknown: in which steps and from which position on it is wrong."""

import numpy as np

from kvsim.i18n.language import Say, language_of
from kvsim.testing.bank.paths import CACHED, DECODE, FIRST, LATER, SEVERAL, SINGLE
from kvsim.testing.feeds.feeding import Check
from kvsim.testing.feeds.references import allow
from kvsim.testing.subject.calls import max_abs
from kvsim.testing.verdict.diagnosing import Vote
from kvsim.testing.verdict.failure import Known
from kvsim.testing.verdict.isolating import find_layer_at_fault, find_seen_rows

PATHS = (DECODE, LATER, SINGLE, SEVERAL, CACHED, FIRST)  # the narrower first
FORMATS = ("float32", "float16")  # whose rounding may explain a difference; that of coarser ones explains too much
SMALL = 0.1  # of the largest logit: no rounding explains more


def find_known(check: Check, votes: list[Vote]) -> Known:
    """What the feeds of a check that failed have in common."""
    given = [v for v in votes if v.got is not None]
    failing = [v for v in given if v.fails]
    wrong = {v.steps[v.wrong_step] for v in failing}
    right = {step for v in given for step in (v.steps[: v.wrong_step] if v.fails else v.steps)}
    paths = [p for p in PATHS if all(p.holds(*s) for s in wrong) and not all(p.holds(*s) for s in right | wrong)]
    path = next((p for p in paths if any(not p.holds(*s) for s in right)), None)
    by_token = [v for v in given if len(v.steps) > 1 and all(count == 1 for _, count in v.steps)]
    at_once = [v for v in given if len(v.steps) == 1]
    everywhere = all((np.abs(v.got - v.expected).max(axis=1) > v.allowed).all() for v in given)
    rounding = find_rounding(check) if everywhere else None  # nothing is spared by rounding
    first = next((c for c in check.done if c.fails(check.allowed.value) and not c.cleared), None)
    layer = None if first is None else find_layer_at_fault(check, first)
    seen = find_seen_rows(check, votes)
    start = min(v.wrong_row for v in failing)
    return Known(path, start, _all_right(by_token), _all_right(at_once), rounding, layer, seen)


def _all_right(votes: list[Vote]) -> bool:
    return bool(votes) and not any(v.fails for v in votes)


def find_rounding(check: Check) -> str | None:
    """The finest format coarser than the check's whose rounding explains the difference; None if none does."""
    pairs = [(c.given.logits, c.expected) for c in check.done if c.given.logits is not None]
    if not all(np.isfinite(got).all() for got, _ in pairs):
        return None
    worst, top = (max(max_abs(x) for x in xs) for xs in ([g - e for g, e in pairs], [e for _, e in pairs]))
    if worst > SMALL * top or not check.reference.lossless:
        return None
    texts = [c.text for c in check.done]
    later = FORMATS[FORMATS.index(check.allowed.dtype) + 1 :] if check.allowed.dtype in FORMATS else FORMATS
    errors = ((name, check.reference.own_error(texts, name)) for name in later)
    return next((name for name, own in errors if worst <= allow(name, own, top).value), None)


def describe_known(known: Known | None, say: Say) -> list[str]:
    """One line, or none if nothing is known."""
    if known is None:
        return []
    facts = []
    if known.path is not None:
        facts.append(say("first wrong {where}").format(where=known.path.sentence(language_of(say))))
    if known.position:
        facts.append(say("right at every position before {position}").format(position=known.position))
    if known.by_token:
        facts.append(say("right where texts are fed token by token"))
    if known.at_once:
        facts.append(say("right where texts are fed at once"))
    if known.layer is not None:
        facts.append(say("wrong only in layer {layer} (from 0): what the others give follows from their input").format(
            layer=known.layer
        ))  # fmt: skip
    if known.seen is not None:
        facts.append(say(
            "in feed {feed} the query at position {position} must have seen the rows {got} instead of {expected}"
        ).format(**known.seen._asdict() | {"feed": list(known.seen.feed)}))  # fmt: skip
    if known.rounding:
        facts.append(say("rounding to {dtype} explains this").format(dtype=known.rounding))
    joined = "；" if language_of(say) == "zh" else "; "
    return ["  " + say("known    : {facts}").format(facts=joined.join(facts))] if facts else []
