"""JSON from untrusted files."""

import json
from pathlib import Path
from typing import Any

from kvsim.errors import FileError
from kvsim.loading.text_file import read_bytes

_LIMIT = 256 * 2**20  # bytes; the largest tokenizer.json in use has about 40 MB


def read_value(path: Path, limit: int | None = None) -> Any:
    """The value in a JSON file. FileError: absent, more than `limit` bytes, not UTF-8, not JSON."""
    raw = read_bytes(path, _LIMIT if limit is None else limit)
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FileError("{path} is not valid JSON: {reason}", path=path, reason=error) from error


def read_json(path: Path, limit: int | None = None) -> dict[str, Any]:
    """The object in a JSON file. FileError: absent, more than `limit` bytes, not UTF-8, not JSON, no object."""
    found = read_value(path, limit)
    if not isinstance(found, dict):
        raise FileError("{path} must hold a JSON object, got {got}", path=path, got=type(found).__name__)
    return found
