"""A config.json read field by field: every field that is used is checked, none is guessed."""

from pathlib import Path
from typing import Any

from kvsim.errors import FileError, Words, shortened

_REQUIRED = object()


class Facts:
    """The fields of one config.json. Every reader raises FileError, naming the file and the field."""

    required = _REQUIRED  # the default of a field that must be there

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        self.path, self.fields = path, fields

    def _get(self, key: str, default: object) -> Any:
        value = self.fields.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise FileError("{path} lacks the field {key}", path=self.path, key=key)
        return default

    def wrong(self, key: str, value: object, expected: str) -> FileError:
        return FileError(
            "{path}: {key} is {value}, expected {expected}",
            path=self.path,
            key=key,
            value=shortened(value),
            expected=expected,
        )

    def size(self, key: str, default: object = _REQUIRED) -> int:
        """A positive integer."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
            raise self.wrong(key, value, Words("a positive integer"))
        return value

    def number(self, key: str, default: object = _REQUIRED) -> float:
        """A finite positive number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
            raise self.wrong(key, value, Words("a positive number"))
        return float(value)

    def layers(self, key: str, default: object = _REQUIRED) -> int:
        """A number of layers: one record each is made of them, so no more than anyone would build."""
        return self.at_most(key, 10_000, default)

    def index(self, key: str, default: object = _REQUIRED) -> int:
        """A whole number from 0: a token's id."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, value, Words("a token id"))
        return value

    def at_most(self, key: str, largest: int, default: object = _REQUIRED) -> int:
        """A positive integer of at most `largest`."""
        value = self.size(key, default)
        if value > largest:
            raise self.wrong(key, value, f"1 .. {largest}")
        return value

    def numbers(self, key: str, count: int) -> list[float]:
        """A list of `count` positive numbers."""
        values = self._get(key, _REQUIRED)
        if not isinstance(values, list) or len(values) != count:
            raise self.wrong(key, values, f"{count} numbers")
        return [Facts(self.path, {key: value}).number(key) for value in values]

    def flag(self, key: str, default: object = _REQUIRED) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, Words("true or false"))
        return value

    def choice(self, key: str, known: dict[str, Any], default: object = _REQUIRED) -> Any:
        """The meaning of a word that must be one of `known`."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(key, value, ", ".join(known))
        return known[value]

    def table(self, key: str) -> dict[str, Any]:
        """A nested object; empty if it is absent or null."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, value, Words("an object"))
        return value

    def only(self, key: str, *allowed: object) -> None:
        """Refuse a field whose value asks for what kvsim does not compute. Absent or null is fine."""
        value = self.fields.get(key)
        if value is not None and value not in allowed:
            raise self.wrong(key, value, ", ".join(map(repr, allowed)))
