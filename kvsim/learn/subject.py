"""The learner's code in its process, as functions and objects to call here. Only data comes back."""

import weakref
from collections.abc import Callable
from typing import Any

from kvsim.learn.values import flatten, restore
from kvsim.processes.channel import FrameError
from kvsim.testing.subject.calls import accepts
from kvsim.testing.subject.remote import CodeEndedError, NoAnswerError, Remote, TimeUpError
from kvsim.testing.subject.wire import send

Function = Callable[..., Any]


class Weights:
    """Weights as an argument: made by `kvsim.testing.weights(**sizes)` in the learner's process."""

    def __init__(self, **sizes: Any) -> None:
        self.sizes = sizes


class Functions:
    """Functions of this side as an argument: one object there, with a method for each, which may be kept."""

    def __init__(self, **functions: Function) -> None:
        self.functions = functions


class Local:
    """What `name`, "MODULE:NAME" of kvsim, makes of these arguments in the learner's process, as an argument: parts of
    a model that need not be counted here."""

    def __init__(self, name: str, *args: Any) -> None:
        self.name, self.args = name, args


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
        self.functions: dict[int, Function] = {}  # that the learner's code may call
        self.made = 0

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
        arrays: list[Any] = []
        before = self.made
        tree = {"list": [self._pack(one, arrays) for one in args]}
        passing = range(before + 1, self.made + 1) if not _keeps(args) else ()
        try:
            facts, given = self.remote.call(name, *arrays, number=number, args=tree, dtype=self.dtype)
            while "callback" in facts:
                self._answer(facts, given)
                facts, given = self.remote.receive()
        finally:
            for one in passing:
                del self.functions[one]
        return self._unpack(facts.get("result"), given)

    def _pack(self, one: Any, arrays: list[Any]) -> Any:
        if isinstance(one, Thing):
            return {"object": one.number}
        if isinstance(one, Weights):
            return {"weights": one.sizes}
        if isinstance(one, Local):
            return {"local": [one.name, {"list": [self._pack(part, arrays) for part in one.args]}]}
        if isinstance(one, Functions):
            return {"functions": [[name, self._register(function)] for name, function in one.functions.items()]}
        if callable(one):
            return {"function": [one.__name__, self._register(one)]}
        return flatten(one, arrays)

    def _register(self, function: Function) -> int:
        self.made += 1
        self.functions[self.made] = function
        return self.made

    def _unpack(self, tree: Any, arrays: list[Any]) -> Any:
        try:
            return restore(tree, arrays, None, self._known)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise NoAnswerError from error

    def _known(self, kind: str, value: Any) -> Any:
        if kind != "object" or type(value) is not int:
            raise ValueError(kind)
        return Thing(self, value)

    def _answer(self, facts: dict[str, Any], given: list[Any]) -> None:
        """Call a function of this side for the learner's code. Its ValueError is raised there."""
        number = facts["callback"]
        function = self.functions.get(number) if type(number) is int else None
        if function is None:  # a function that was given to one call only, and was kept
            function = _gone
        arrays: list[Any] = []
        args = self._unpack(facts.get("args"), given)
        try:
            if function is _gone:
                raise ValueError("this function can be called only in the call that it was given to")
            if not isinstance(args, list) or not accepts(function, tuple(args), {}):
                raise TypeError(f"{function.__name__} is called with other arguments")
            reply = {"result": flatten(function(*args), arrays)}
        except (ValueError, TypeError) as error:
            reply = {"wrong": str(error)[:300]}
            arrays.clear()
        try:
            send(self.remote.channel, reply, arrays)
        except TimeoutError:
            raise TimeUpError from None
        except (OSError, FrameError):
            raise CodeEndedError from None


def _gone(*args: Any) -> None:
    """Stands for a function that is no longer there."""


def _keeps(args: tuple[Any, ...]) -> bool:
    """Whether functions among the arguments may be called later, too."""
    return any(isinstance(one, Functions) or (isinstance(one, Local) and _keeps(one.args)) for one in args)
