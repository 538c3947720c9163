"""A failed check as text: its sentences by what they tell, and all of them as they are printed."""

from collections.abc import Sequence
from typing import NamedTuple

from kvsim.i18n.language import Say, language_of
from kvsim.testing.verdict.failure import AttentionFailure, DecoderFailure, Failure
from kvsim.testing.verdict.known import describe_known
from kvsim.testing.verdict.picture import describe_buffer, draw_dependence, draw_weights
from kvsim.testing.verdict.text import (
    describe_diagnosis,
    say_command,
    say_layer,
    say_logits_blank,
    say_logits_differ,
    say_no_mistake,
    say_output_blank,
    say_smallest,
    say_smallest_call,
    sentence,
    short,
    show_difference,
    show_place,
)


class Sections(NamedTuple):
    """Lines, in the order in which they are printed."""

    what: Sequence[str]  # what is wrong
    where: Sequence[str] = ()  # the first place that differs, the first layer
    picture: Sequence[str] = ()  # who sees whom, drawn
    why: Sequence[str] = ()  # the mistake and its evidence
    feeds: Sequence[str] = ()  # the smallest feed that fails
    command: Sequence[str] = ()  # how to see the mistake by itself


def render(failure: Failure, say: Say) -> str:
    """The whole text, in one or several lines."""
    return "\n".join(line for lines in tell(failure, say) for line in lines)


def tell(failure: Failure, say: Say) -> Sections:
    """The lines of a failed check."""
    if isinstance(failure, DecoderFailure):
        return _decoder(failure, say)
    if isinstance(failure, AttentionFailure):
        return _attention(failure, say)
    why = ["  " + sentence(note, say) for note in failure.notes]
    command = []
    if failure.named is not None:
        named = [f"[{m.id}] {m.sentence(language_of(say))}" for m in failure.named]
        why += ["  " + say("diagnosis: ") + one for one in named or [f"[unknown] {say_no_mistake(say)}"]]
        known = [m.id for m in failure.named[:1] if m.variants]  # those of an exercise are not in the bank
        command = ["  " + say("similar  : {command}").format(command=f"kvsim explain {id}") for id in known]
    return Sections([sentence(problem, say) for problem in failure.headlines], why=why, command=command)


def _decoder(f: DecoderFailure, say: Say) -> Sections:
    """Where a decoder first differs, which positions depend on which, the mistake, the smallest feed."""
    what = [sentence(problem, say) for problem in f.problems[:1]]
    what.append(say_logits_blank(f.blank, say) if f.blank else say_logits_differ(f, say))
    where = ["  " + say(
        "first place: feed {feed}, step {step}, row {row} (token {token}, position {position}), channel {channel}: got"
        " {got}, expected {expected}"
    ).format(**show_place(f.first))]  # fmt: skip
    if f.layer is not None:
        where.append("  " + say_layer(f.layer, say))
    if f.unsteady is not None:
        where.append("  " + say(
            "not deterministic: fed the same text again, the logits differ by {apart}: dropout, noise, or a cache that"
            " is not reset"
        ).format(apart=short(f.unsteady)))  # fmt: skip
    picture = [] if f.dependence is None else draw_dependence(f.dependence, say)
    return Sections(what, where, picture, _explain(f, say), ["  " + say_smallest(f, say)], say_command(f, say))


def _explain(f: DecoderFailure, say: Say) -> list[str]:
    """Why a decoder is wrong, as far as it is known."""
    if f.unsteady is not None and not (f.diagnosis and f.diagnosis.candidates):
        why = say("code that is not deterministic cannot be compared with a mistake")
        lines = ["  " + say("diagnosis: ") + f"[unknown] {why}"]
    else:
        lines = describe_diagnosis(f.diagnosis, say) + describe_known(f.known, say)
    if f.after_others:
        lines.append("  " + say("only after other texts: the same feed passed when it was the first"))
    if f.after_clear:
        lines.append("  " + say(
            "only where an object is used again after {name}(): texts fed to a new one pass"
        ).format(name=f.after_clear))  # fmt: skip
    return lines


def _attention(f: AttentionFailure, say: Say) -> Sections:
    """Where an attention output first differs, which keys each query sees, the mistake, the smallest sizes."""
    what = [sentence(problem, say) for problem in f.problems[:1]]
    if f.blank:
        what.append(say_output_blank(f.blank, say))
    else:
        what.append(say(
            "attention output differs from the reference: {count} of {total} values, max |diff| {worst} ({allowed})"
        ).format(**show_difference(f, say)))  # fmt: skip
    where = ["  " + say(
        "first place: head {head}, query {query} (token {token}, position {position}), channel {channel}: got {got},"
        " expected {expected}"
    ).format(**show_place(f.first))]  # fmt: skip
    if f.buffer is not None:
        where.append("  " + describe_buffer(f.buffer, say))
    picture = [] if f.weights is None else draw_weights(f.weights, say)
    if not f.linear:
        picture = ["", "  " + say("the output is not linear in V: the attention weights are not applied to V"), ""]
    why = describe_diagnosis(f.diagnosis, say)
    if f.only_nan:
        why.append("  " + say(
            "only where rows that were never written hold NaN: 0 x NaN is NaN; nan=False leaves that out, for buffers"
            " that are made of zeros"
        ))  # fmt: skip
    return Sections(what, where, picture, why, ["  " + say_smallest_call(f, say)], say_command(f, say))
