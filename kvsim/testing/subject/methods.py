"""The methods by which a state under test says that it can be emptied for another text, or edited between steps."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

from kvsim.testing.subject.calls import UnreadableError, accepts, call, describe_error

CLEARS = ("reset", "clear", "reset_cache", "clear_cache", "reset_kv_cache", "clear_kv_cache")
EDITS = {"crop": ("crop", "truncate"), "fork": ("fork", "clone"), "reorder": ("reorder", "select")}
ARGUMENTS: dict[str, tuple[Any, ...]] = {"crop": (None, 0), "fork": (None,), "reorder": ([], [])}  # of such a method
LIBRARIES = ("site-packages", "dist-packages")  # what a method of a library does, only its documentation says


def find_clear(state: Any, given: Callable[[Any], Any] | bool | None) -> tuple[str, Callable[[Any], Any]] | None:
    """The name of a function that empties the state, and the function: `given`, or a method of the state's own that
    takes no arguments. None: there is none, or `given` is False."""
    if given is False or (not callable(given) and isinstance(state, Collection)):
        return None
    if callable(given):
        return getattr(given, "__name__", "clear"), given
    name = next((name for name in CLEARS if is_own(getattr(state, name, None), ())), None)
    return None if name is None else (name, _calling(name))


def is_own(method: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether it is a function that is written in Python, not in a library, and takes these arguments."""
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    own = code is not None and not any(part in code.co_filename for part in LIBRARIES)
    return own and callable(method) and accepts(method, arguments, {})


def _calling(name: str) -> Callable[[Any], Any]:
    def clear(state: Any) -> Any:
        return getattr(state, name)()

    clear.__name__ = name
    return clear


def find_edits(thing: type) -> dict[str, str]:
    """{edit: name of the method} of a class: `crop(self, length)`, `fork(self)`, and the static or class method
    `reorder(objects, order)`. Those of a collection, such as a dict, may mean something else."""
    if issubclass(thing, Collection):
        return {}
    found: dict[str, str] = {}
    for edit, names in EDITS.items():
        for name in names:
            bound = isinstance(inspect.getattr_static(thing, name, None), staticmethod | classmethod)
            if bound == (edit == "reorder") and is_own(getattr(thing, name, None), ARGUMENTS[edit]):
                found.setdefault(edit, name)
    return found


class MethodCalls:
    """Answers calls of such methods, of objects that are kept under numbers."""

    thing: Any  # the class
    kept: dict[int, Any]

    def keep(self, x: Any) -> dict[str, Any]:
        """Keep an object; its number."""
        raise NotImplementedError

    def clear(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        """Empty an object by a method of its own; whether it has one."""
        found = find_clear(one := self.kept[facts["number"]], None)
        try:
            if found is not None:
                found[1](one)
        except NotImplementedError:
            found = None
        except (Exception, SystemExit) as error:
            raise UnreadableError("{name} raised {error}", name="clear", error=describe_error(error)) from error
        return {"cleared": found is not None}, []

    def crop(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        """Crop an object in place, or to another one; its number. A method may return a count."""
        name, one = find_edits(self.thing)["crop"], self.kept[facts["number"]]
        changed = call(getattr(one, name), facts["length"])
        if changed is None or changed is one or hasattr(changed, "__index__"):
            return {"number": facts["number"]}, []
        return self.keep(self.one_of_them(name, changed)), []

    def fork(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        """The number of a fork."""
        name = find_edits(self.thing)["fork"]
        return self.keep(self.one_of_them(name, call(getattr(self.kept[facts["number"]], name)))), []

    def reorder(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        """The numbers of the objects in the places of an order."""
        name, given = find_edits(self.thing)["reorder"], [self.kept[number] for number in facts["numbers"]]
        changed = call(getattr(self.thing, name), given, list(facts["order"]))
        changed = given if changed is None else changed
        if not isinstance(changed, list | tuple) or len(changed) != len(facts["order"]):
            raise UnreadableError("{name} gave {got}, expected a list of {count} objects", name=name,
                                  got=type(changed).__name__, count=len(facts["order"]))  # fmt: skip
        return {"numbers": [self.keep(self.one_of_them(name, x))["number"] for x in changed]}, []

    def one_of_them(self, name: str, x: Any) -> Any:
        """`x`, if it is an object of the class, or has its main method. UnreadableError: it is something else."""
        if not isinstance(x, self.thing) and not any(hasattr(x, main) for main in ("update", "forward")):
            raise UnreadableError("{name} gave {got}, expected an object of {cls}", name=name, got=type(x).__name__,
                                  cls=self.thing.__name__)  # fmt: skip
        return x
