"""The learner's code in its process, as functions and objects to call here. Only data comes back."""

import weakref
from collections.abc import Callable
from typing import Any

from kvsim.learn.values import flatten, restore
from kvsim.processes.channel import FrameError
from kvsim.testing.subject.remote import CodeEndedError, NoAnswerError, Remote, TimeUpError
from kvsim.testing.subject.wire import send

Function = Callable[..., Any]


class Weights:
    """Weights as an argument: made by `kvsim.testing.weights(**sizes)` in the learner's process."""

    def __init__(self, **sizes: Any) -> None:
        self.sizes = sizes


class Thing:
    """An object of the learner's code; it is given up when this one is."""

    def __init__(self, subject: "Subject", number: int) -> None:
        self.subject, self.number = subject, number
        weakref.finalize(self, subject.remote.free.append, number).atexit = False

    def call(self, name: str, *args: Any) -> Any:
        """What its method gives."""
        return self.subject.ask(name, self.number, args)


class Subject:
    """What the learner's file defines. `dtype`: of the arrays of floats that it is given."""

    def __init__(self, remote: Remote, dtype: str = "float64") -> None:
        self.remote, self.dtype = remote, dtype
        self.names: list[str] = []

    def begin(self) -> None:
        """Wait until the file is loaded. CodeEndedError: it cannot be."""
        names = self.remote.describe().get("names")
        if not isinstance(names, list):
            raise NoAnswerError
        self.names = [str(name) for name in names]

    def call(self, name: str, *args: Any) -> Any:
        """What the function `name` gives for these arguments: data, arrays, objects of the learner's, Weights, and
        functions of this side, which the learner's code may call. Lists and tuples come as lists.

        UnreadableError: it gives nothing that can be read. CodeEndedError: none will come.
        """
        return self.ask(name, None, args)

    def ask(self, name: str, number: int | None, args: tuple[Any, ...]) -> Any:
        """As `call`; of the object of that number if there is one."""
        functions: dict[str, Function] = {}
        arrays: list[Any] = []
        tree = {"list": [self._pack(one, arrays, functions) for one in args]}
        facts, given = self.remote.call(name, *arrays, number=number, args=tree, dtype=self.dtype)
        while "callback" in facts:
            self._answer(facts, given, functions)
            facts, given = self.remote.receive()
        return self._unpack(facts.get("result"), given)

    def _pack(self, one: Any, arrays: list[Any], functions: dict[str, Function]) -> Any:
        if isinstance(one, Thing):
            return {"object": one.number}
        if isinstance(one, Weights):
            return {"weights": one.sizes}
        if callable(one):
            functions[one.__name__] = one
            return {"function": one.__name__}
        return flatten(one, arrays)

    def _unpack(self, tree: Any, arrays: list[Any]) -> Any:
        try:
            return restore(tree, arrays, None, self._known)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise NoAnswerError from error

    def _known(self, kind: str, value: Any) -> Any:
        if kind != "object" or type(value) is not int:
            raise ValueError(kind)
        return Thing(self, value)

    def _answer(self, facts: dict[str, Any], given: list[Any], functions: dict[str, Function]) -> None:
        """Call a function of this side for the learner's code. Its ValueError is raised there."""
        function = functions.get(str(facts["callback"]))
        if function is None:
            raise NoAnswerError
        arrays: list[Any] = []
        try:
            reply = {"result": flatten(function(*self._unpack(facts.get("args"), given)), arrays)}
        except (ValueError, TypeError) as error:
            reply = {"wrong": str(error)[:300]}
            arrays.clear()
        try:
            send(self.remote.channel, reply, arrays)
        except TimeoutError:
            raise TimeUpError from None
        except (OSError, FrameError):
            raise CodeEndedError from None
