"""Arrays seen by a watcher at named places of a run."""

from fnmatch import fnmatchcase
from typing import Any


class Seen(dict[str, Any]):
    """A dict from the name of a place to the array last shown there. `history[name]` lists all of them in order: one
    per forward pass, and in a batch one per sequence."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        super().__init__()
        self.patterns = patterns
        self.history: dict[str, list[Any]] = {}
        self._ids: set[int] = set()  # ids of the arrays in `history`, which keeps them alive

    def __reduce__(self) -> Any:
        return Seen, (self.patterns,), {"history": self.history}, None, iter(self.items())

    def wants(self, name: str) -> bool:
        """Does a pattern match this place?"""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def has(self, x: Any) -> bool:
        """Was this very array shown?"""
        return id(x) in self._ids

    def show(self, name: str, x: Any) -> None:
        """Keep `x` if a pattern matches the place `name`."""
        if self.wants(name):
            self._ids.add(id(x))
            self[name] = x
            self.history.setdefault(name, []).append(x)

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"nothing was seen at {name!r}: patterns {self.patterns}, seen {sorted(self)}")
