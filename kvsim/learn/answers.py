"""Numbers that a learner writes down before anything runs, compared with what is computed."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvsim.learn.looking import read_text
from kvsim.testing.subject.calls import Problem

OPEN = "?"  # an answer that was not given
CLOSE = 0.01  # of a value: the part below which "1 times as large" would say nothing


@dataclass(frozen=True)
class Answer:
    """The answer to one question. `near`: wrong answers, by the id of the mistake that gives them; `within`: the part
    of the value by which an answer may differ."""

    value: int | float | str | list[int]
    near: Mapping[str, Any] = field(default_factory=dict)
    within: float = 0.0

    def accepts(self, given: Any) -> bool:
        return _close(given, self.value, self.within)

    def names(self, given: Any) -> list[str]:
        """The ids of the mistakes that give this answer."""
        return [id for id, wrong in self.near.items() if _close(given, wrong, self.within)]


def _close(given: Any, value: Any, within: float) -> bool:
    if isinstance(value, list):
        return isinstance(given, list) and given == value
    if isinstance(value, str):
        return isinstance(given, str) and given.strip().lower() == value
    if isinstance(given, bool) or not isinstance(given, int | float):
        return False
    return bool(abs(given - value) <= within * abs(value))


def read_answers(path: Path) -> dict[str, Any] | Problem:
    """The learner's answers by the names of the questions, or why the file is not TOML. FileError: it cannot be
    read."""
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return Problem("{file} is not TOML: {error}", {"file": path.name, "error": str(error)[:200]})


def open_questions(given: Mapping[str, Any], answers: Mapping[str, Answer]) -> list[str]:
    """The questions without an answer. In a list, all numbers must be given."""
    return [name for name in answers if OPEN in _parts(given.get(name, OPEN))]


def _parts(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def untouched(given: Mapping[str, Any], answers: Mapping[str, Answer]) -> bool:
    """Whether no question has an answer."""
    return all(set(map(str, _parts(given.get(name, OPEN)))) <= {OPEN} for name in answers)


def describe(name: str, given: Any, answer: Answer) -> Problem:
    """How far off a wrong answer is, without the right one."""
    value = answer.value
    if isinstance(value, list):
        return _describe_list(name, given, value)
    if isinstance(value, str):
        return Problem("{name}: {given} is wrong", {"name": name, "given": repr(given)[:60]})
    if isinstance(given, bool) or not isinstance(given, int | float):
        return Problem("{name}: {given} is not a number", {"name": name, "given": repr(given)[:60]})
    return _describe_number(name, given, value)


def _describe_number(name: str, given: int | float, value: int | float) -> Problem:
    shown = f"{given:.6g}" if isinstance(given, float) else given
    values = {"name": name, "given": shown, "times": _times(given, value)}
    if abs(given - value) < CLOSE * abs(value):
        return Problem("{name}: {given} is less than 1 % off, and that is not close enough here", values)
    if given <= 0:
        return Problem("{name}: {given} is too small", values)
    if given > value:
        return Problem("{name}: {given} is {times} times what it should be", values)
    return Problem("{name}: {given} is too small: the right number is {times} times as large", values)


def _describe_list(name: str, given: Any, value: list[int]) -> Problem:
    if not isinstance(given, list) or len(given) != len(value):
        count = len(given) if isinstance(given, list) else 0
        return Problem("{name}: expected a list of {count} numbers, got {got}",
                       {"name": name, "count": len(value), "got": count})  # fmt: skip
    place = next(i for i, (g, v) in enumerate(zip(given, value, strict=True)) if g != v)
    wrong = sum(g != v for g, v in zip(given, value, strict=True))
    return Problem("{name}: {wrong} of {count} numbers are wrong; the first wrong one is number {place}: {given}",
                   {"name": name, "wrong": wrong, "count": len(value), "place": place + 1,
                    "given": repr(given[place])[:60]})  # fmt: skip


def tell(name: str, given: Any, answer: Answer) -> Problem:
    """What a prediction was worth, with the right number."""
    values = {"name": name, "given": given, "value": answer.value}
    if answer.accepts(given):
        return Problem("predicted {name} = {given}: right", values)
    return Problem("predicted {name} = {given}, it is {value}", values)


def _times(given: float, value: float) -> str:
    """The larger of two numbers as a multiple of the smaller one."""
    low, high = sorted((abs(given), abs(value)))
    return f"{float(f'{high / low:.3g}'):,g}" if low else "?"
