"""What was seen at the named places of a run, without a flag in the model."""

from fnmatch import fnmatchcase
from typing import Any


class Seen(dict[str, Any]):
    """Name -> the array last shown there. `history[name]` has all of them, in order: one for each
    forward pass, and within a batch one for each sequence."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        super().__init__()
        self.patterns = patterns
        self.history: dict[str, list[Any]] = {}

    def show(self, name: str, x: Any) -> None:
        if any(fnmatchcase(name, pattern) for pattern in self.patterns):
            self[name] = x
            self.history.setdefault(name, []).append(x)

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"nothing was seen at {name!r}: patterns {self.patterns}, seen {sorted(self)}")
