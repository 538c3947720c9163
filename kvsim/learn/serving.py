"""The process of the learner's code: it loads a file and answers calls of what the file defines. It judges nothing."""

import contextlib
import faulthandler
import os
import sys
import time
import traceback
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from kvsim.learn.values import check_size, flatten, make_known_weights, restore
from kvsim.processes.channel import Channel
from kvsim.processes.child import own_end
from kvsim.testing.subject.calls import UnreadableError, accepts, describe_error
from kvsim.testing.subject.serving import UNREADABLE, EndedError, answer, load
from kvsim.testing.subject.wire import receive, send

MOST_NAMES = 200  # names of one file that are reported, at most


class Server:
    """Answers {"call": name, "number": of an object or None, "args": ...}; objects that the code makes stay here."""

    def __init__(self, channel: Channel, module: ModuleType, path: Path) -> None:
        self.channel, self.module, self.path = channel, module, str(path.absolute())
        self.kept: dict[int, Any] = {}
        self.weights: dict[str, Any] = {}
        self.made = 0

    def keep(self, x: Any) -> int | None:
        """The number of an object of a class of the learner's file; None: of no such class."""
        if type(x).__module__ != self.module.__name__:
            return None
        for number, other in self.kept.items():
            if other is x:
                return number
        self.made += 1
        self.kept[self.made] = x
        return self.made

    def run(self, facts: dict[str, Any], arrays: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """What the call gives. UnreadableError: it raises, changes its arguments, or gives no data."""
        for number in facts["free"]:
            self.kept.pop(number, None)
        dtype, name = facts["dtype"], facts["call"]
        owner = self.module if facts["number"] is None else self.kept[facts["number"]]
        args = restore(facts["args"], arrays, dtype, partial(self._known, dtype))
        before = [x.copy() if isinstance(x, np.ndarray) else None for x in args]
        result = self._call(owner, name, args)
        found: list[Any] = []
        tree = flatten(result, found, name, self.keep)
        for number, (x, copy) in enumerate(zip(args, before, strict=True), start=1):
            if copy is not None and not np.array_equal(x, copy, equal_nan=copy.dtype.kind == "f"):
                raise UnreadableError("{name} changed its argument {number}", name=name, number=number)
        check_size(tree, name)
        return {"result": tree}, found

    def _known(self, dtype: str, kind: str, value: Any) -> Any:
        """An object of the code, functions of the other side, weights, which are made once, or what kvsim's own code
        makes of these."""
        if kind == "object":
            return self.kept[value]
        if kind == "function":
            return self._function(value[0], value[1], dtype)
        if kind == "local":
            module, _, name = value[0].partition(":")
            return getattr(import_module(module), name)(*restore(value[1], [], dtype, partial(self._known, dtype)))
        if kind == "functions":
            return SimpleNamespace(**{name: self._function(name, number, dtype) for name, number in value})
        key = f"{dtype} {value}"
        if key not in self.weights:
            self.weights[key] = make_known_weights(value, dtype)
        return self.weights[key]

    def _function(self, name: str, number: int, dtype: str) -> Any:
        """A function that asks the other side."""

        def ask(*args: Any) -> Any:
            arrays: list[Any] = []
            send(self.channel, {"callback": number, "args": flatten(args, arrays, name)}, arrays)
            facts, given = receive(self.channel)
            if "wrong" in facts:
                raise ValueError(facts["wrong"])
            result = restore(facts["result"], given, dtype, partial(self._known, dtype))
            return tuple(result) if isinstance(result, list) else result

        ask.__name__ = name
        return ask

    def _call(self, owner: Any, name: str, args: list[Any]) -> Any:
        """The result. UnreadableError: the code raises an error; the message gives its line."""
        try:
            function = getattr(owner, name)
        except AttributeError as error:
            raise UnreadableError("{name} raised {error}", name=name, error=describe_error(error)) from error
        try:
            return function(*args)
        except UnreadableError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, TypeError) and not accepts(function, tuple(args), {}):
                raise UnreadableError(
                    "{name} cannot be called with {count} arguments{words}: {error}", name=name, count=len(args),
                    words="", error=describe_error(error),
                ) from error  # fmt: skip
            line = self._line(error)
            told, raised = describe_error(error), type(error)
            if line is None:
                raise UnreadableError("{name} raised {error}", name=name, error=told, raised=raised) from error
            raise UnreadableError("{name} raised {error} (line {line})", name=name, error=told, line=line,
                                  raised=raised) from error  # fmt: skip

    def _line(self, error: BaseException) -> int | None:
        """The innermost line of the learner's file on the way to the error."""
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == self.path]
        return lines[-1] if lines else None


def begin(path: Path, found: list[ModuleType]) -> tuple[dict[str, Any], list[Any]]:
    """Load the file; the names that can be called. EndedError: it cannot be loaded."""
    try:
        module = load(path.absolute())
    except BaseException as error:
        raise EndedError(UNREADABLE, describe_error(error)) from error
    found.append(module)
    return {"names": [n[:80] for n, x in vars(module).items() if callable(x)][:MOST_NAMES]}, []


def serve(channel: Channel, path: Path) -> None:
    """Load the file, then answer calls until the other end closes."""
    found: list[ModuleType] = []
    if not answer(channel, partial(begin, path, found)):
        return
    server = Server(channel, found[0], path)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            facts, arrays = receive(channel)
            if not answer(channel, partial(server.run, facts, arrays)):
                return


def main(arguments: list[str]) -> None:
    """Serve, and end the process at once: threads that the code started may never end. Shortly before the time limit
    the stack is written to what stderr is at the start."""
    path, _, _, until = arguments
    sys.argv = [""]
    channel, errors = own_end(), os.dup(2)
    faulthandler.dump_traceback_later(max(0.9 * (float(until) - time.time()), 0.001), file=errors)
    serve(channel, Path(path))
    faulthandler.cancel_dump_traceback_later()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)
