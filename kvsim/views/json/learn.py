"""The result of `kvsim learn check` as a record, `kvsim.learn/1`."""

from collections.abc import Sequence
from typing import Any

from kvsim.i18n.printable import printable
from kvsim.schemas import stamp


def learn_dict(seed: int, outcomes: Sequence[Any]) -> dict[str, Any]:
    """Every exercise and how it stands. `outcomes`: of `kvsim.learn.checking`."""
    return {
        **stamp("learn"),
        "seed": seed,
        "total": len(outcomes),
        "done": sum(one.done for one in outcomes),
        "exercises": [_exercise(one) for one in outcomes],
    }


def _exercise(outcome: Any) -> dict[str, Any]:
    exercise = outcome.exercise
    return {
        "number": exercise.number,
        "id": exercise.id,
        "status": outcome.status,
        "diagnosis": list(outcome.diagnosis),
        "text": "\n".join(printable(line) for line in outcome.text.split("\n")),
        "predicted": [printable(line) for line in outcome.predicted],
    }
