"""JSON from untrusted files."""

import json
from pathlib import Path
from typing import Any

from kvsim.errors import FileError, Words, reason_of, shortened
from kvsim.loading.text_file import read_bytes

SMALL = 4 * 2**20  # bytes of a config.json or a grid; parsed, the worst of them takes 100 MB
DEEPEST = 100  # levels of nesting: far more than any file of a model has
MOST_DIGITS = 1_000  # of an integer


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. ValueError: two values of one key, of which a reader would take one or the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(Words("the key {key} stands twice in one object", key=shortened(key)))
            seen.add(key)
    return found


def _whole(text: str) -> int:
    """An integer. ValueError: too many digits to be one that counts something."""
    if len(text) > MOST_DIGITS:
        raise ValueError(Words("an integer of {count} digits", count=len(text)))
    return int(text)


def _too_deep() -> Words:
    return Words("more than {count} levels of nesting", count=DEEPEST)


def _check_depth(value: Any) -> None:
    """ValueError: nested so deeply that it could neither be compared nor printed."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(_too_deep())
        members = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [part for parts in members for part in parts if isinstance(part, dict | list)]


def read_value(path: Path, limit: int = SMALL) -> Any:
    """The value in a JSON file. FileError: absent, more than `limit` bytes, or as `parse_value`."""
    return parse_value(path, read_bytes(path, limit))


def parse_value(path: Path, raw: bytes) -> Any:
    """The value in the bytes of a JSON file. FileError: not UTF-8, not JSON, two values of one key, more than DEEPEST
    levels of nesting or MOST_DIGITS digits."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_whole)
        _check_depth(value)
    except ValueError as error:
        raise FileError("{path} is not valid JSON: {reason}", path=path, reason=reason_of(error)) from error
    except RecursionError as error:
        raise FileError("{path} is not valid JSON: {reason}", path=path, reason=_too_deep()) from error
    return value


def read_json(path: Path, limit: int = SMALL) -> dict[str, Any]:
    """The object in a JSON file. FileError: as `read_value`, or no object."""
    return parse_json(path, read_bytes(path, limit))


def parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    """The object in the bytes of a JSON file. FileError: as `parse_value`, or no object."""
    found = parse_value(path, raw)
    if not isinstance(found, dict):
        raise FileError("{path} must hold a JSON object, got {got}", path=path, got=type(found).__name__)
    return found
