"""JSON objects from files that nobody vouches for."""

import json
from pathlib import Path
from typing import Any

from kvsim.errors import FileError

_LIMIT = 256 * 2**20  # bytes; the largest tokenizer.json in use has about 40 MB


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. FileError: absent, too large, not UTF-8, not JSON, no object."""
    try:
        size = path.stat().st_size
        if size > _LIMIT:
            raise FileError(
                "{path} has {size} bytes, more than the {limit} allowed", path=path, size=size, limit=_LIMIT
            )
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError("cannot read {path}: {reason}", path=path, reason=error.strerror or error) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError("{path} is not valid JSON: {reason}", path=path, reason=error) from error
    if not isinstance(found, dict):
        raise FileError("{path} must hold a JSON object, got {got}", path=path, got=type(found).__name__)
    return found
