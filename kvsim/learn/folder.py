"""The learner's folder: a file for each exercise, and what was done so far in `.kvsim-learn.json`.

The state can be lost: `kvsim learn check --all` makes it again from the files, which hold the seed too. Only the number
of hints that were shown is then unknown.
"""

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kvsim.checks import as_int
from kvsim.errors import FileError, UsageError
from kvsim.files.writing import write_beside
from kvsim.learn.exercise import LEVELS, Exercise, list_exercises
from kvsim.learn.looking import read_text
from kvsim.schemas import dump

STATE = ".kvsim-learn.json"
USUAL = "learn"  # the folder that `init` makes
SEEDS = 10**6  # a learner's seed is below
VERSION = 1


@dataclass(frozen=True)
class State:
    """What a learner has done. `passed`: ids of exercises; `hints`: the number of hints shown, by id."""

    seed: int
    passed: tuple[str, ...] = ()
    hints: dict[str, int] = field(default_factory=dict)

    def with_outcome(self, id: str, passed: bool) -> "State":
        """After a check of that exercise."""
        others = [one for one in self.passed if one != id]
        return replace(self, passed=tuple([*others, id] if passed else others))

    def with_hint(self, id: str) -> "State":
        """After one more hint."""
        return replace(self, hints=self.hints | {id: min(self.hints.get(id, 0) + 1, LEVELS)})


def find_folder(given: Path | None) -> Path:
    """The learner's folder: the given one, else this folder, else `learn` in it. FileError: no exercises there."""
    places = [Path(), Path(USUAL)] if given is None else [given]
    for place in places:
        if (place / STATE).is_file() or any((place / name).is_file() for e in list_exercises() for name in e.files):
            return place
    raise FileError("{path} has no exercises: kvsim learn init DIR writes them", path=places[0].absolute())


def read_state(folder: Path) -> State:
    """The state. FileError: absent, or damaged."""
    path = folder / STATE
    try:
        found = json.loads(read_text(path))
        passed, hints = found["passed"], found["hints"]
        seed = as_int(found["seed"])
        fits = found["version"] == VERSION and seed is not None and seed >= 0
        fits = fits and isinstance(passed, list) and all(isinstance(one, str) for one in passed)
        fits = fits and isinstance(hints, dict) and all(as_int(n) is not None for n in hints.values())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    if not fits or seed is None:
        raise _damaged(path)
    return State(seed, tuple(passed), {id: int(n) for id, n in hints.items()})


def _damaged(path: Path) -> FileError:
    return FileError("{path} is absent or damaged: kvsim learn check --all makes it again", path=path)


def write_state(folder: Path, state: State) -> None:
    """Replace the state as a whole. FileError: it cannot be written."""
    record: dict[str, Any] = {"version": VERSION, "seed": state.seed, "passed": list(state.passed),
                              "hints": state.hints}  # fmt: skip
    write_beside(folder / STATE, f"{dump(record)}\n".encode())


def restore_state(folder: Path) -> State:
    """The state as it is, or, if it is absent or damaged, a new one with the seed that the files hold."""
    try:
        return read_state(folder)
    except FileError:
        return State(find_seed(folder))


def find_seed(folder: Path) -> int:
    """The seed in the first of the files with answers; a new one if there is none."""
    for exercise in list_exercises():
        for name in exercise.files:
            if name.endswith(".toml") and (folder / name).is_file():
                found = re.search(r"^seed\s*=\s*([0-9]{1,9})\s*(#.*)?$", read_text(folder / name), re.MULTILINE)
                if found:
                    return int(found[1])
    return draw_seed()


def draw_seed() -> int:
    """A seed that no other learner has, most probably."""
    return secrets.randbelow(SEEDS)


def start(folder: Path, seed: int | None) -> State:
    """Write every file that is not there yet, and the state. A state that is there stays, and its seed.

    UsageError: another seed than that of the files. FileError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileError("cannot write {path}: {error}", path=folder, error=error) from error
    there = (folder / STATE).is_file() or any((folder / name).is_file() for e in list_exercises() for name in e.files)
    state = restore_state(folder) if there else State(draw_seed() if seed is None else seed)
    if seed is not None and state.seed != seed:
        raise UsageError("{path} has the seed {got}, not {seed}: use another folder", path=str(folder), got=state.seed,
                         seed=seed)  # fmt: skip
    for exercise in list_exercises():
        write_files(folder, exercise, [n for n in exercise.files if not (folder / n).exists()], state.seed)
    write_state(folder, state)
    return state


def write_files(folder: Path, exercise: Exercise, names: Iterable[str], seed: int) -> None:
    """Write files of an exercise as they are at the start."""
    for name in names:
        write_beside(folder / name, exercise.start(name, seed).encode())


def reset(folder: Path, exercise: Exercise, seed: int) -> list[str]:
    """Write the files of an exercise as they are at the start. What was there is kept as NAME.bak, or .bak1 and so on
    if there is one already; returns these names."""
    kept = []
    for name in exercise.files:
        if (folder / name).is_file():
            backup = next(b for b in _backups(name) if not (folder / b).exists())
            write_beside(folder / backup, (folder / name).read_bytes())
            kept.append(backup)
        write_files(folder, exercise, [name], seed)
    return kept


def _backups(name: str) -> Iterable[str]:
    yield f"{name}.bak"
    number = 1
    while True:
        yield f"{name}.bak{number}"
        number += 1
