"""The JSON that kvsim prints: one table of schemas, one stamp, one way to write.

The schema of `kvsim COMMAND --json` is the file `NAME-VERSION.json` in this folder; `kvsim schema NAME` prints it.
`oracle` is that of the files of `pytest --kv-report`, `perfetto` that of `kvsim trace --perfetto FILE`.
"""

import json
from pathlib import Path
from typing import Any

from kvsim import __version__

VERSION = __version__  # of the package
FOLDER = Path(__file__).resolve().parent
VERSIONS = {
    "bench": 1,
    "caches": 1,
    "chat": 1,
    "claims": 1,
    "compare": 1,
    "cost": 1,
    "doctor": 1,
    "explain": 1,
    "learn": 1,
    "memory": 1,
    "oracle": 1,
    "perfetto": 1,
    "plan": 1,
    "plan-sweep": 1,
    "tolerance": 1,
    "trace": 1,
    "vectors": 1,
    "verify": 1,
}


def stamp(name: str) -> dict[str, Any]:
    """The first two entries of a record: {"schema": "kvsim.NAME/VERSION", "kvsim": the package's version}."""
    return {"schema": f"kvsim.{name}/{VERSIONS[name]}", "kvsim": VERSION}


def dump(record: Any) -> str:
    """A record as JSON text: UTF-8 characters unescaped, integers exact. ValueError: NaN or infinity."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def read_schema(name: str) -> str:
    """The JSON schema of `name` (a key of VERSIONS) as text."""
    return (FOLDER / f"{name}-{VERSIONS[name]}.json").read_text(encoding="utf-8")
