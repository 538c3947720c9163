"""Reads a config.json field by field: every field that is used is checked, none is guessed.

A field that is left out takes the default of transformers' config class where it has one (`Defaults`), or
what the family derives from other fields; `assumed` lists these. A null is a value of its own: it is refused
where the class refuses it, and never takes the class's default.
"""

from pathlib import Path
from typing import Any

from kvsim.errors import FileError, Words, shortened
from kvsim.loading.defaults import NOTHING, Defaults

_REQUIRED = object()
LARGEST = 2**40 - 1  # of a whole number without a smaller limit: far above every model's
HUGE = 1e300  # a number from here on would overflow in the first product


class Facts:
    """The fields of one config.json. Every reader raises FileError, naming the file and the field."""

    required = _REQUIRED  # the default of a required field

    def __init__(self, path: Path, fields: dict[str, Any], defaults: Defaults | None = None) -> None:
        self.path, self.fields, self.defaults = path, fields, defaults
        self.place = ""  # prefix of a field's name in `assumed`: "attn_config."
        self.assumed: dict[str, Any] = {}  # fields that were read and are left out -> the value taken
        self.asked: set[str] = set()  # all fields that were read, given or not

    @property
    def family(self) -> str:
        """The model_type. FileError: missing or not one of `FAMILIES`."""
        return str(self.fields["model_type"])

    @property
    def behind(self) -> Defaults:
        """The defaults of the fields."""
        return NOTHING if self.defaults is None else self.defaults

    def changed(self, **fields: Any) -> "Facts":
        """The same with other fields; reads of these are recorded in this object's `assumed` and `asked`."""
        return self._part({**self.fields, **fields}, self.behind, self.place)

    def inside(self, key: str, fields: dict[str, Any] | None = None) -> "Facts":
        """A nested object, or `fields` in its place; reads are recorded in this object's `assumed` and `asked`."""
        table = self.table(key) if fields is None else fields
        return self._part(table, self.behind.inside.get(key, NOTHING), f"{self.place}{key}.")

    def _part(self, fields: dict[str, Any], defaults: Defaults, place: str) -> "Facts":
        part = Facts(self.path, fields, defaults)
        part.place, part.assumed, part.asked = place, self.assumed, self.asked
        return part

    def _written(self, key: str) -> str | None:
        """The name under which the file has the field. FileError: two names of it with different values."""
        others = [alias for alias, name in self.behind.aliases.items() if name == key]
        ignored = [name for name in others if name in self.behind.optional and self.fields.get(name) is None]
        names = [name for name in (key, *others) if name in self.fields and name not in ignored]
        for other in names[1:]:
            if self.fields[other] != self.fields[names[0]]:
                raise FileError(
                    "{path}: {key} is {value}, but {other}, another name for it, is {another}",
                    path=self.path,
                    key=names[0],
                    value=shortened(self.fields[names[0]]),
                    other=other,
                    another=shortened(self.fields[other]),
                )
        return names[0] if names else None

    def _get(self, key: str, default: object) -> Any:
        """The written value; else the class's default; else `default`, which also replaces null."""
        self.asked.add(self.place + key)
        name, behind = self._written(key), self.behind
        if name is not None:
            value = self.fields[name]
            if value is None and key in behind.values and key not in behind.optional:
                raise self.wrong(name, None, Words("a value, or the field left out"))
            return default if value is None and default is not _REQUIRED else value
        value = behind.values.get(key)
        if value is None:
            if default is _REQUIRED:
                raise FileError("{path} lacks the field {key}", path=self.path, key=key)
            value = default
        if key in behind.values or value is not None:
            self.assumed[self.place + key] = value
        return value

    def value(self, key: str, default: object = None) -> Any:
        """The field's value, unchecked; `default` if it is null, or left out and the class has no default."""
        return self._get(key, default)

    def name_of(self, key: str) -> str:
        """The name that the file uses for the field; the field's own if it is left out."""
        return self._written(key) or key

    def has(self, key: str) -> bool:
        """Is the field written, even if as null?"""
        return self._written(key) is not None

    def given(self, key: str) -> bool:
        """Does the field hold a value other than null?"""
        return self._get(key, None) is not None

    def wrong(self, key: str, value: object, expected: str) -> FileError:
        return FileError(
            "{path}: {key} is {value}, expected {expected}",
            path=self.path,
            key=key,
            value=shortened(value),
            expected=expected,
        )

    def size(self, key: str, default: object = _REQUIRED) -> int:
        """A positive integer of at most LARGEST."""
        return self.at_most(key, LARGEST, default)

    def number(self, key: str, default: object = _REQUIRED) -> float:
        """A finite positive number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < HUGE:
            huge = not isinstance(value, bool) and isinstance(value, int | float) and value >= HUGE
            raise self.wrong(key, value, f"0 < n < {HUGE:.0e}" if huge else Words("a positive number"))
        return float(value)

    def number_or_none(self, key: str) -> float | None:
        """A finite positive number; None if it is null, left out or 0, which all stand for none."""
        value = self._get(key, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0):
            return None
        return self.number(key)

    def layers(self, key: str, default: object = _REQUIRED) -> int:
        """A number of layers, limited because one record is made for each."""
        return self.at_most(key, 10_000, default)

    def index(self, key: str, default: object = _REQUIRED, what: str = Words("a token id")) -> int:
        """A whole number from 0 to LARGEST: `what`."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, value, what)
        if value > LARGEST:
            raise self.wrong(key, value, f"0 .. {LARGEST}")
        return value

    def at_most(self, key: str, largest: int, default: object = _REQUIRED) -> int:
        """A positive integer of at most `largest`."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, value, Words("a positive integer"))
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
        """True or false; null counts as false where the class allows it."""
        value = self._get(key, default)
        if value is None and key in self.behind.optional:
            return False
        if not isinstance(value, bool):
            raise self.wrong(key, value, Words("true or false"))
        return value

    def choice(self, key: str, known: dict[str, Any], default: object = _REQUIRED) -> Any:
        """The value in `known` of a word that must be one of its keys."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(key, value, ", ".join(known))
        return known[value]

    def table(self, key: str) -> dict[str, Any]:
        """A nested object; the class's default if it is left out, null or empty."""
        self.asked.add(self.place + key)
        value = self.fields.get(key)
        if value is None and self.behind.values.get(key) is not None:
            value = self.assumed[self.place + key] = self.behind.values[key]
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise self.wrong(key, value, Words("an object"))
        return value

    def only(self, key: str, *allowed: object) -> None:
        """FileError: the field's value asks for something that kvsim does not compute. Null and left out are
        accepted."""
        value = self._get(key, None)
        if value is not None and value not in allowed:
            raise self.wrong(key, value, ", ".join(map(repr, allowed)))
