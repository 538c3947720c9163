"""Public models by name: the facts of their config.json, in a data file with their source (models.json).

A name is the lower-case Hugging Face id without its owner: "llama-3.1-405b".
"""

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

from kvsim.config import Config
from kvsim.errors import UsageError, shortened
from kvsim.loading.config_file import make_config
from kvsim.loading.facts import Facts
from kvsim.loading.json_file import read_json
from kvsim.loading.places import BUNDLED

FILE = Path(__file__).resolve().parent / "models.json"


@cache
def read_catalogue() -> dict[str, dict[str, Any]]:
    """All entries: name to {"source": address, "config": fields}."""
    entries: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return entries


def find_config(model: str | Path | Config) -> tuple[str, Config]:
    """Name and config of a catalogue name, a bundled model, a folder with config.json, such a file, or a Config.

    UsageError: no such model (near names are suggested). FileError: a config.json that cannot be used.
    """
    if isinstance(model, Config):
        return model.family, model
    name, facts = find_facts(str(model))
    return name, make_config(facts)


def find_assumed(model: str | Path | Config) -> dict[str, Any]:
    """The fields that the model's config.json leaves out, and what stands in for each: transformers' default, or
    what follows from other fields; null for what the model then has not. Nothing for a Config. Errors as above."""
    if isinstance(model, Config):
        return {}
    facts = find_facts(str(model))[1]
    make_config(facts)
    return facts.assumed


def find_facts(name: str) -> tuple[str, Facts]:
    """Name and facts of what is no Config."""
    path = BUNDLED.get(name, Path(name))
    if name in read_catalogue() and name not in BUNDLED:
        return name, Facts(FILE, read_catalogue()[name]["config"])
    try:
        found = bool(name) and path.exists()
    except (OSError, ValueError):  # too long, a NUL byte
        found = False
    if found and path.is_dir():
        return path.resolve().name, Facts(path / "config.json", read_json(path / "config.json"))
    if found and path.suffix == ".json":
        return path.resolve().parent.name, Facts(path, read_json(path))
    near = difflib.get_close_matches(name.lower(), [*read_catalogue(), *BUNDLED], n=3, cutoff=0.6)
    raise UsageError(
        "no model {name} in the catalogue, and no folder with config.json or such a file: near names are {near}",
        name=shortened(name),
        near=", ".join(near) or "-",
    )
