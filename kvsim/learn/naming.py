"""Failures of an exercise: records of `kvsim.testing`, with mistakes of the bank or of the exercise itself."""

from typing import Any

from kvsim.learn.exercise import Exercise
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.subject.calls import Problem
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure


def find_named(exercise: Exercise, id: str) -> Mistake:
    """The mistake of that id: of the bank, else of the exercise. KeyError: of neither."""
    if id in BANK:
        return BANK[id]
    return Mistake(id, exercise.mistakes("en")[id], exercise.mistakes("zh")[id], ())


def list_ids(exercise: Exercise) -> list[str]:
    """The ids of the exercise's own mistakes."""
    return list(exercise.mistakes("en"))


def fail(
    exercise: Exercise, problem: Problem, *ids: str, notes: tuple[Problem, ...] = (), compared: bool = True,
    **numbers: Any,
) -> OracleError:  # fmt: skip
    """The error of a check that failed. `ids`: the mistakes that explain it; none: it is not known which."""
    named = tuple(find_named(exercise, id) for id in ids)
    return OracleError(
        Failure(headlines=(problem,), notes=notes, compared=compared, named=named or None, numbers=numbers)
    )
