"""The defaults of transformers' config classes for the fields that kvsim reads.

`python -m tests.loading.defaults` writes them into kvsim/loading/defaults.json. They are the defaults of the classes'
fields; a value that a class derives in its constructor (key/value heads from query heads) is null there.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from kvsim.errors import KvsimError
from kvsim.loading.config_file import make_config
from kvsim.loading.defaults import FILE, make_defaults
from kvsim.loading.facts import Facts
from kvsim.loading.families import FAMILIES
from tests.loading.zoo import ZOO, written_config

# Keyword arguments that a class accepts although they are no fields of it: how to read their default from a config
# object. None is derived from another field. Classes with rotary positions accept rope_theta, too.
OLDER: dict[str, dict[str, Callable[[Any], Any]]] = {
    "gpt_neox": {
        "rotary_emb_base": lambda made: made.rope_parameters["rope_theta"],
        "rotary_pct": lambda made: made.rope_parameters["partial_rotary_factor"],
    },
    "phi": {"partial_rotary_factor": lambda made: made.rope_parameters["partial_rotary_factor"]},
    "phi3": {"partial_rotary_factor": lambda made: made.rope_parameters["partial_rotary_factor"]},
    "gemma3_text": {
        "rope_theta": lambda made: made.rope_parameters["full_attention"]["rope_theta"],
        "rope_local_base_freq": lambda made: made.rope_parameters["sliding_attention"]["rope_theta"],
        "sliding_window_pattern": lambda made: made._sliding_window_pattern,
    },
    "t5": {"tie_word_embeddings": lambda made: made.tie_word_embeddings},
}
MAY_BE_NULL = {"bloom": ["n_embed"], "falcon": ["n_embed"], "t5": ["tie_word_embeddings"]}  # among OLDER and ALIASES
ALIASES = {"bloom": {"n_embed": "hidden_size"}, "falcon": {"n_embed": "hidden_size"}}  # beside attribute_map


def own_fields(kind: Any) -> dict[str, Any]:
    """{field: default} of a config class, for defaults that JSON can represent."""
    found = {field.name: field.default for field in dataclasses.fields(kind)}
    return {key: value for key, value in found.items() if value is None or isinstance(value, bool | int | float | str)}


def may_be_null(kind: Any, key: str) -> bool:
    """Whether the class accepts null for one of its fields."""
    try:
        kind(**{key: None})
    except Exception:  # a class's validation raises exceptions of several libraries
        return False
    return True


def older_fields(family: str, made: Any) -> dict[str, Any]:
    """The defaults of `OLDER`."""
    table = getattr(made, "rope_parameters", None) or {}
    found = {"rope_theta": table["rope_theta"]} if "rope_theta" in table and family != "gpt_neox" else {}
    found |= {key: read(made) for key, read in OLDER.get(family, {}).items()}
    if table.get("rope_type", "default") != "default":  # gpt-oss has a scaling table by default
        found["rope_parameters"] = {key: value for key, value in table.items() if key != "rope_theta"}
    return found


def aliases_of(family: str, kind: Any) -> dict[str, str]:
    """{other name: field} of a class."""
    own = own_fields(kind)
    pairs = [(a, b) if b in own else (b, a) for a, b in kind.attribute_map.items()]
    return {**dict(pairs), **ALIASES.get(family, {})}


def entry(family: str, kind: Any, asked: set[str] | None = None, place: str = "") -> dict[str, Any]:
    """The entry of defaults.json for a family, or for an object nested in it: all fields, or those in `asked`."""
    values = own_fields(kind) | ({} if place else older_fields(family, kind()))
    if asked is not None:
        values = {key: value for key, value in values.items() if place + key in asked}
    optional = [key for key in values if key in own_fields(kind) and may_be_null(kind, key)]
    made: dict[str, Any] = {"values": dict(sorted(values.items()))}
    if not place:
        optional += MAY_BE_NULL.get(family, [])
        made["aliases"] = {a: key for a, key in sorted(aliases_of(family, kind).items()) if key in values}
        nested = {key: type(part) for key, part in vars(kind()).items() if key in getattr(kind, "sub_configs", {})}
        made["inside"] = {key: entry(family, part, asked, f"{key}.") for key, part in nested.items()}
    return {"values": made.pop("values"), "optional": sorted(optional), **{k: v for k, v in made.items() if v}}


def variants(family: str) -> Iterator[dict[str, Any]]:
    """Config.json files of a family that together make kvsim read every field it can: those of the zoo unchanged,
    without their tables, lists and nulls, and with a number for every null; each of them with every flag inverted."""
    for name in ZOO:
        whole = written_config(name)
        if whole["model_type"] != family:
            continue
        plain = {key: value for key, value in whole.items() if value is not None and not isinstance(value, list | dict)}
        for fields in (whole, plain, {key: 4 for key, value in whole.items() if value is None} | plain):
            yield fields
            yield from (fields | {key: not value} for key, value in fields.items() if isinstance(value, bool))


def asked_of(family: str, kind: Any) -> set[str]:
    """All fields that kvsim reads for a family; nested ones as "attn_config.alibi"."""
    found: set[str] = set()
    everything = make_defaults(entry(family, kind))
    for fields in variants(family):
        facts = Facts(FILE, fields, everything)
        with contextlib.suppress(KvsimError):  # the fields read before the error count
            make_config(facts)
        found |= facts.asked
    return found


def read_classes() -> str:
    """The text of the data file, from the installed transformers."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kinds = {family: CONFIG_MAPPING[family] for family in sorted(FAMILIES)}
    lines = [
        f"{json.dumps(family)}: {json.dumps(entry(family, kind, asked_of(family, kind)))}"
        for family, kind in kinds.items()
    ]
    version = json.dumps(transformers.__version__)
    return f'{{"transformers": {version}, "model_types": {{\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    FILE.write_text(read_classes(), encoding="utf-8")
