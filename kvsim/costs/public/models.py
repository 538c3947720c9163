"""A catalogue of public models: the fields of their config.json, in a data file with their source (models.json).

A name is the lower-case Hugging Face id without its owner: "llama-3.1-405b".
"""

import difflib
import json
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from kvsim.checks import LARGEST, check_kind, check_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words, shortened
from kvsim.loading.config_file import make_config
from kvsim.loading.facts import Facts
from kvsim.loading.json_file import SMALL, read_json
from kvsim.loading.places import BUNDLED

FILE = Path(__file__).resolve().parent / "models.json"


@cache
def read_catalogue() -> dict[str, dict[str, Any]]:
    """All entries: {name: {"source": address, "config": fields}}."""
    entries: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return entries


def _as_name(model: Any) -> str:
    """A model given by its name or path, as text. UsageError: anything else."""
    check_kind("model", isinstance(model, str | PathLike), model, Words("the name or the path of a model, or a Config"))
    return str(model)


def find_config(model: str | Path | Config) -> tuple[str, Config]:
    """Name and config of a catalogue name, a bundled model, a folder with config.json, such a file, or a Config.

    UsageError: no such model (near names are suggested). FileError: a config.json that cannot be used.
    """
    if isinstance(model, Config):
        return model.family, model
    name, facts = find_facts(_as_name(model))
    return name, make_config(facts)


def find_assumed(model: str | Path | Config) -> dict[str, Any]:
    """The fields that the model's config.json leaves out, with the value used for each: transformers' default, or
    one that follows from other fields; None for a part that the model then lacks. Empty for a Config.

    UsageError, FileError: as `find_config`."""
    if isinstance(model, Config):
        return {}
    facts = find_facts(_as_name(model))[1]
    make_config(facts)
    return facts.assumed


def find_facts(name: str) -> tuple[str, Facts]:
    """Name and facts of a model given as text. UsageError, FileError: as `find_config`."""
    path = BUNDLED.get(name, Path(name))
    if name in read_catalogue() and name not in BUNDLED:
        return name, Facts(FILE, read_catalogue()[name]["config"])
    try:
        found = bool(name) and path.exists()
    except (OSError, ValueError):  # too long, a NUL byte
        found = False
    if found and path.is_dir():
        return path.resolve().name, Facts(path / "config.json", read_json(path / "config.json", SMALL))
    if found and path.suffix == ".json":
        return path.resolve().parent.name, Facts(path, read_json(path, SMALL))
    near = difflib.get_close_matches(name.lower(), [*read_catalogue(), *BUNDLED], n=3, cutoff=0.6)
    if not near:
        raise UsageError(
            "no model {name} in the catalogue, and no folder with config.json or such a file: use a name such as"
            " llama-2-7b-hf, or a path",
            name=shortened(name),
        )
    raise UsageError(
        "no model {name} in the catalogue, and no folder with config.json or such a file: near names are {near}",
        name=shortened(name),
        near=", ".join(near),
    )


def check_source(name: str, config: Config, source: int | None) -> int:
    """The encoder positions `source` of the model `name`, 0 without an encoder.

    UsageError: `source` for a model without an encoder, none for one with it, or not a whole number."""
    if config.encoder is None and source is not None:
        raise UsageError("the model {model} has no encoder", model=name)
    if config.encoder is not None and source is None:
        raise UsageError("the model {model} reads a source: give source, its encoder positions", model=name)
    return 0 if source is None else check_whole("source", source, 1, LARGEST)
