"""A check that failed: the text that is printed, and the same as data."""

from typing import Any

from kvsim.testing.feeds.references import Allowed
from kvsim.testing.verdict.diagnosing import Diagnosis
from kvsim.testing.verdict.sentences import tell

EVIDENCE = (
    "evidence : equals the reference with this one mistake on all {values} values, in {matched} of {failing} failing"
    " feeds, and in {others} of {passing} others"
)
BLANK_EVIDENCE = (
    "evidence : NaN in the same places as the reference with this one mistake, in {matched} of {failing} failing feeds,"
    " and the same in {others} of {passing} others; with no finite number to compare, whatever else makes all of it NaN"
    " would look the same"
)


UNSTEADY = "what does not give the same twice cannot be compared with a mistake"
NEAREST = (
    "nearest  : {id} gives the same in {matched} of {failing} failing feeds and {others} of {passing} others: it is not"
    " that one, or not alone"
)


class OracleError(AssertionError):
    """What a failed check raises. `facts` has what the text says; `facts["diagnosis"]` the ids, ["unknown"] if none."""

    def __init__(self, text: str, facts: dict[str, Any]) -> None:
        super().__init__(text)
        self.facts = facts


def short(value: float) -> str:
    """A measured number in two digits."""
    return f"{value:.1e}" if value else "0"


def tell_allowed(lang: str, allowed: Allowed) -> str:
    """Where the bound comes from."""
    if allowed.given is not None:
        return tell(lang, "allowed {value}, as asked", value=short(allowed.given))
    return tell(
        lang,
        "allowed {value} = 2 x the reference's own {dtype} error {own} + {floor}",
        value=short(allowed.value), dtype=allowed.dtype, own=short(allowed.own), floor=short(allowed.floor),
    )  # fmt: skip


def tell_diagnosis(lang: str, diagnosis: Diagnosis | None, covered: bool = True, unsteady: bool = False) -> list[str]:
    """The diagnosis line, and its evidence. `unsteady`: the code does not give the same twice."""
    head = "  " + tell(lang, "diagnosis: ")
    if diagnosis is None or not diagnosis.candidates:
        why = "no single mistake of the bank gives this output (two at once are often not named)"
        if unsteady:
            return [
                f"{head}[unknown] {tell(lang, 'what does not give the same twice cannot be compared with a mistake')}"
            ]
        if not covered:
            why = "the independent decoder does not cover this model, so no mistakes could be tried"
        elif diagnosis is None or diagnosis.blank:
            why = "nothing finite to compare, and no mistake of the bank gives NaN in these places"
        lines = [f"{head}[unknown] {tell(lang, why)}"]
        return lines + ([] if diagnosis is None else tell_nearest(lang, diagnosis))
    named = [f"[{c.mistake.id}] {c.mistake.sentence(lang)}" for c in diagnosis.candidates]
    lines = [head + f" {tell(lang, 'or')} ".join(named)]
    best = diagnosis.candidates[0]
    lines.append("  " + tell(
        lang, BLANK_EVIDENCE if diagnosis.blank else EVIDENCE,
        values=best.values, matched=best.failing, failing=diagnosis.n_failing, others=best.all - best.failing,
        passing=diagnosis.n_all - diagnosis.n_failing,
    ))  # fmt: skip
    return lines


def tell_nearest(lang: str, diagnosis: Diagnosis) -> list[str]:
    """What comes closest to an unknown mistake, and that it is not the same."""
    if diagnosis.nearest is None:
        return []
    return ["  " + tell(
        lang, NEAREST, id=diagnosis.nearest.mistake.id, matched=diagnosis.nearest.failing, failing=diagnosis.n_failing,
        others=diagnosis.nearest.all - diagnosis.nearest.failing, passing=diagnosis.n_all - diagnosis.n_failing,
    )]  # fmt: skip


def tell_command(lang: str, diagnosis: Diagnosis, options: dict[str, Any], same: bool = True) -> str:
    """What shows the mistake by itself: the very numbers, or the same on other weights."""
    best = diagnosis.candidates[0]
    words = [f"kvsim explain {best.mistake.id}"]
    for name, value in (options | {"reading": best.reading if best.reading > 1 else None}).items():
        words += (
            [f"--{name}" if value is True else f"--{name} {value}"] if value is not None and value is not False else []
        )
    template = "reproduce: {command}" if same else "alike    : {command}"
    return "  " + tell(lang, template, command=" ".join(words))


def ids_of(diagnosis: Diagnosis | None) -> list[str]:
    return list(diagnosis.ids) if diagnosis and diagnosis.ids else ["unknown"]
