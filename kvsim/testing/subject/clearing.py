"""The method by which a state under test says that it can be emptied for another text."""

from collections.abc import Callable, Collection
from typing import Any

from kvsim.testing.subject.calls import accepts

METHODS = ("reset", "clear", "reset_cache", "clear_cache", "reset_kv_cache", "clear_kv_cache")
LIBRARIES = ("site-packages", "dist-packages")  # what a method of a library empties, only its documentation says


def find_clear(state: Any, given: Callable[[Any], Any] | bool | None) -> tuple[str, Callable[[Any], Any]] | None:
    """The name of a function that empties the state, and the function: `given`, or a method of the state's own that
    takes no arguments. None: there is none, or `given` is False."""
    if given is False or (not callable(given) and isinstance(state, Collection)):
        return None
    if callable(given):
        return getattr(given, "__name__", "clear"), given
    for name in METHODS:
        method = getattr(state, name, None)
        code = getattr(getattr(method, "__func__", method), "__code__", None)
        own = code is not None and not any(part in code.co_filename for part in LIBRARIES)
        if own and callable(method) and accepts(method, (), {}):
            return name, _calling(name)
    return None


def _calling(name: str) -> Callable[[Any], Any]:
    def clear(state: Any) -> Any:
        return getattr(state, name)()

    clear.__name__ = name
    return clear
