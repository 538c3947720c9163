"""The exercises of the track: folders of data, read when they are asked for."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from kvsim.errors import UsageError, shortened
from kvsim.learn.checkers import CHECKERS

TRACK = Path(__file__).parent / "track"
LEVELS = 3  # hints of an exercise


@dataclass(frozen=True)
class Exercise:
    """One exercise. `name`: of its folder, "04_kv_cache", and of the learner's files; `entry`: the names that the
    learner's file must define, empty where the exercise consists of answers alone."""

    id: str
    number: int
    name: str
    titles: dict[str, str]  # by language
    deliverables: tuple[int, ...]  # of the tutorial's chapter, from 1
    section: str  # of the tutorial
    needs: tuple[str, ...]  # exercises to do before
    minutes: int
    entry: tuple[str, ...]
    programs: tuple[tuple[int, ...], ...]  # feeds that the text speaks of
    cost: dict[str, int]  # what the right solution computes

    @property
    def folder(self) -> Path:
        return TRACK / self.name

    @property
    def has_answers(self) -> bool:
        """Whether numbers are asked for."""
        return (self.folder / "answers.toml").is_file()

    @property
    def files(self) -> dict[str, str]:
        """The learner's files by name, each with the file of the exercise that it starts as."""
        code = {f"{self.name}.py": "stub.py"} if self.entry else {}
        return code | ({f"{self.name}.toml": "answers.toml"} if self.has_answers else {})

    @property
    def checker(self) -> ModuleType:
        """The module with `check(given)`, and `answers(seed)` and `facts(seed)` where numbers are asked for."""
        return import_module(CHECKERS[self.id])

    def text(self, language: str) -> str:
        """The task, in Markdown."""
        return (self.folder / f"text.{language}.md").read_text(encoding="utf-8")

    def hints(self, language: str) -> list[str]:
        """The hints, the vaguest first."""
        found = self._toml(f"hints.{language}.toml")
        return [str(found[f"level{n}"]).strip() for n in range(1, LEVELS + 1)]

    def mistakes(self, language: str) -> dict[str, str]:
        """The sentences of mistakes that are not in the bank of `kvsim.testing`, by their ids."""
        name = f"mistakes.{language}.toml"
        return self._toml(name) if (self.folder / name).is_file() else {}

    def start(self, file: str, seed: int) -> str:
        """The text that the learner's file `file` starts as."""
        text = (self.folder / self.files[file]).read_text(encoding="utf-8")
        return self.fill(text, seed) if file.endswith(".toml") else text

    def fill(self, text: str, seed: int, more: dict[str, Any] | None = None) -> str:
        """`text` with {{seed}} and the checker's facts of that seed in place."""
        facts = getattr(self.checker, "facts", None)
        for name, value in {"seed": seed, **(facts(seed) if facts else {}), **(more or {})}.items():
            text = text.replace("{{" + name + "}}", str(value))
        return text

    def _toml(self, name: str) -> dict[str, str]:
        return tomllib.loads((self.folder / name).read_text(encoding="utf-8"))


@cache
def list_exercises() -> tuple[Exercise, ...]:
    """All exercises, in their order."""
    return tuple(_read(folder) for folder in sorted(TRACK.iterdir()) if (folder / "exercise.toml").is_file())


def _read(folder: Path) -> Exercise:
    found = tomllib.loads((folder / "exercise.toml").read_text(encoding="utf-8"))
    return Exercise(
        id=found["id"], number=int(folder.name.partition("_")[0]), name=folder.name, titles=found["title"],
        deliverables=tuple(found["deliverables"]), section=found["section"], needs=tuple(found["needs"]),
        minutes=found["minutes"], entry=tuple(found["entry"]), programs=tuple(map(tuple, found.get("programs", []))),
        cost=found.get("cost", {}),
    )  # fmt: skip


def find_exercise(word: str) -> Exercise:
    """The exercise of that id, number ("4", "04") or name. UsageError: there is none."""
    for one in list_exercises():
        if word in (one.id, one.name, f"{one.number}", f"{one.number:02}", *one.files):
            return one
    raise UsageError("unknown exercise {word}: use one of {known}", word=shortened(word),
                     known=", ".join(f"{e.number:02} {e.id}" for e in list_exercises()))  # fmt: skip
