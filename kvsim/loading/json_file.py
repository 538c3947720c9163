"""JSON objects from files that nobody vouches for."""

import json
from pathlib import Path
from typing import Any

from kvsim.errors import FileError

_LIMIT = 256 * 2**20  # bytes; the largest tokenizer.json in use has about 40 MB


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. FileError: absent, too large, not UTF-8, not JSON, no object."""
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            raise FileError("cannot read {path}: there is no such file", path=path)
        with path.open("rb") as file:
            raw = file.read(_LIMIT + 1)
        if len(raw) > _LIMIT:
            raise FileError("{path} has more than the {limit} bytes allowed", path=path, limit=_LIMIT)
        found = json.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise FileError("cannot read {path}: {reason}", path=path, reason=error.strerror or error) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError("{path} is not valid JSON: {reason}", path=path, reason=error) from error
    if not isinstance(found, dict):
        raise FileError("{path} must hold a JSON object, got {got}", path=path, got=type(found).__name__)
    return found
