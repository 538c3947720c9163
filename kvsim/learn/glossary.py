"""The glossary: terms of KV caching, each with a command that shows it and what to look for in its output."""

import tomllib
from pathlib import Path
from typing import NamedTuple


class Word(NamedTuple):
    """One term. `command`: without its language; `shows`: a part of what it prints in that language."""

    id: str
    name: str
    means: str
    command: str
    shows: str


def read_words(language: str) -> list[Word]:
    """All terms, in their order."""
    path = Path(__file__).parent / f"words.{language}.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Word(id, **one) for id, one in found.items()]
