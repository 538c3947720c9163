"""Defaults of transformers' config classes, for fields that a config.json leaves out.

They are in defaults.json, which `python -m tests.loading.defaults` writes from the classes themselves. A
default that follows from other fields is null there; the families derive it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent / "defaults.json"


@dataclass(frozen=True)
class Defaults:
    """Defaults of the fields of one model_type."""

    values: Mapping[str, Any] = field(default_factory=dict)  # field -> default; null: none, or one that is derived
    optional: frozenset[str] = frozenset()  # fields that may be written as null
    aliases: Mapping[str, str] = field(default_factory=dict)  # another name of a field -> the field
    inside: Mapping[str, "Defaults"] = field(default_factory=dict)  # the same for a field that is an object

    def without(self, *names: str) -> "Defaults":
        """The same, without defaults for `names`."""
        return replace(self, values={key: value for key, value in self.values.items() if key not in names})


NOTHING = Defaults()


def make_defaults(stored: dict[str, Any]) -> Defaults:
    """One entry of the data file."""
    return Defaults(
        stored["values"],
        frozenset(stored["optional"]),
        stored.get("aliases", {}),
        {key: make_defaults(part) for key, part in stored.get("inside", {}).items()},
    )


@cache
def read_all() -> dict[str, Defaults]:
    """model_type -> its defaults."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return {model_type: make_defaults(entry) for model_type, entry in stored["model_types"].items()}


def read_defaults(model_type: str) -> Defaults:
    """The defaults of one of `FAMILIES`."""
    return read_all()[model_type]
