"""The learn track at the terminal: at most 80 cells wide."""

from collections.abc import Sequence
from typing import Any

from kvsim.i18n.language import Say, language_of
from kvsim.i18n.printable import printable
from kvsim.i18n.wrapping import wrap
from kvsim.learn.checking import CANNOT_RUN, FAILED, NOT_STARTED, PASSED, SKIPPED
from kvsim.learn.exercise import LEVELS
from kvsim.testing.bank import BANK
from kvsim.views.terminal.screen import terminal_width
from kvsim.views.terminal.text import pad

BAR = 20
WIDTH = 80  # cells of a line, in a file and through a pipe too
SIGNS = {PASSED: "✓", FAILED: "✗", NOT_STARTED: "·", CANNOT_RUN: "✗", SKIPPED: "-"}
PRINTED = 1000  # characters of what the code printed


def fold(text: str) -> str:
    """Every line of `text` in lines of WIDTH, or of the terminal's width if that is less."""
    width = min(WIDTH, terminal_width() or WIDTH)
    return "\n".join(part for line in text.split("\n") for part in wrap(line.rstrip(), width))


def status_text(status: str, say: Say) -> str:
    """A status in words."""
    return {
        PASSED: say("passed"), FAILED: say("wrong"), NOT_STARTED: say("not started"),
        CANNOT_RUN: say("cannot be run"), SKIPPED: say("skipped"),
    }[status]  # fmt: skip


def format_bar(done: int, total: int) -> str:
    """[##########----------] 6/14"""
    full = BAR * done // total
    return f"[{'#' * full}{'-' * (BAR - full)}] {done}/{total}"


def format_head(exercise: Any, done: int, total: int, path: str) -> str:
    """The first line above a result."""
    return fold(f"{format_bar(done, total)}   {exercise.number:02} {exercise.id}   {printable(path)}")


def format_outcome(outcome: Any, hints: int, say: Say) -> str:
    """What came out, and what to do next. `hints`: how many were shown."""
    exercise, lines = outcome.exercise, []
    text = "\n".join(printable(line) for line in outcome.text.split("\n")).rstrip()
    if outcome.diagnosis and exercise.entry:
        text = _mistake_first(text, outcome.diagnosis, say)
    head = f"{SIGNS[outcome.status]} {status_text(outcome.status, say)}"
    apart = "\n" if text.startswith(" ") else ""
    lines.append(fold(head if not text else f"{head}{say(': ').rstrip() if apart else say(': ')}{apart}{text}"))
    lines += [fold(f"  {printable(line)}") for line in outcome.predicted]
    if outcome.printed.strip():
        shown = "\n".join(printable(line) for line in outcome.printed.strip()[:PRINTED].split("\n"))
        lines += [say("the code printed: {text}").format(text=""), fold(shown)]
    if not outcome.done:
        left = say("hints left: {count} (kvsim learn hint {number:02})")
        lines.append("  " + left.format(count=LEVELS - hints, number=exercise.number))
    for id in outcome.diagnosis:
        if id in BANK:
            text = say("a real bug of the kind: {twin}") if BANK[id].twin else say("this mistake alone: {twin}")
            lines.append("  " + text.format(twin=f"kvsim explain {id}"))
    return "\n".join(lines)


def _mistake_first(text: str, ids: Sequence[str], say: Say) -> str:
    """A report with the smallest feed that fails and the mistake in front: what a learner looks for first. Without the
    plain command of a mistake: the last line of the outcome has it."""
    again = [say("similar  : {command}").format(command=f"kvsim explain {id}") for id in ids]
    lines = [line for line in text.split("\n") if line.strip() not in again]
    starts = [say(key).partition("{")[0].strip() for key in ("smallest : feed {feed}", "diagnosis: ")]
    first = [line for start in starts for line in lines if line.strip().startswith(start)]
    rest = [line for line in lines if line not in first]
    return "\n".join(line if line.startswith(" ") or not line else f"  {line}" for line in [*first, *rest])


def format_list(exercises: Sequence[Any], passed: Sequence[str], say: Say) -> str:
    """One line for each exercise."""
    language = language_of(say)
    lines = [format_bar(sum(one.id in passed for one in exercises), len(exercises))]
    for one in exercises:
        sign = SIGNS[PASSED] if one.id in passed else SIGNS[NOT_STARTED]
        minutes = say("{count} min").format(count=one.minutes)
        lines.append(f"{sign} {one.number:02} {pad(one.id, 18)} {pad(one.titles[language], 40)} {minutes}")
    return "\n".join(lines)


def format_outcomes(outcomes: Sequence[Any], say: Say) -> str:
    """One line for each result, with the mistakes' ids."""
    lines = [format_bar(sum(one.done for one in outcomes), len(outcomes))]
    for one in outcomes:
        said = " ".join(one.diagnosis)
        status = pad(status_text(one.status, say), 14)
        lines.append(
            f"{SIGNS[one.status]} {one.exercise.number:02} {pad(one.exercise.id, 18)} {status} {said}".rstrip()
        )
    return "\n".join(lines)


def format_hints(exercise: Any, shown: int, say: Say) -> str:
    """The first `shown` hints."""
    hints = exercise.hints(language_of(say))[:shown]
    label = say("hint {number} of {total}")
    return "\n".join(
        fold(f"{label.format(number=n, total=LEVELS)}{say(': ')}{hint}") if "\n" not in hint else
        f"{label.format(number=n, total=LEVELS)}{say(': ').rstrip()}\n{fold(hint)}"
        for n, hint in enumerate(hints, start=1)
    )  # fmt: skip


def format_words(words: Sequence[Any], say: Say) -> str:
    """Each term, what it means, and the command that shows it."""
    parts = []
    for word in words:
        seen = say("see: {command} → {shows}").format(command=word.command, shows=word.shows)
        parts.append(fold(f"{word.name} ({word.id})") + "\n" + fold(f"  {word.means}") + "\n" + fold(f"  {seen}"))
    return "\n\n".join(parts)


def format_keys(say: Say) -> str:
    """The keys of `kvsim learn` in a terminal."""
    return fold(say("keys: h hint  s show the task  l list  n next  r check again  x reset  q quit"))
