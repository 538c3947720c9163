"""The solutions, compressed, so that nobody reads one by accident. `python -m tests.learn.pack` writes them."""

import zlib
from typing import Any

from kvsim.learn.exercise import Exercise

FILE = "solution.z"


def pack(text: str) -> bytes:
    return zlib.compress(text.encode(), 9)


def read_solution(exercise: Exercise, seed: int) -> str:
    """The solution as text; of an exercise of answers alone, with the answers for this seed."""
    text = zlib.decompress((exercise.folder / FILE).read_bytes()).decode()
    return text if exercise.entry else fill_answers(exercise, text, seed)


def fill_answers(exercise: Exercise, text: str, seed: int) -> str:
    """`text` with {{NAME}} replaced by the answer to the question NAME, and {{NAME:ID}} by the wrong one that the
    mistake ID gives."""
    filled: dict[str, Any] = {}
    for name, one in exercise.checker.answers(seed).items():
        filled |= {name: one.value, **{f"{name}:{id}": wrong for id, wrong in one.near.items()}}
    return exercise.fill(text, seed, filled)
