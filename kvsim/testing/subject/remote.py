"""The code under test in another process, as functions to call here. Only data comes back: arrays and messages."""

import os
import secrets
import subprocess
import time
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.processes.channel import Channel, FrameError
from kvsim.processes.child import end_child, start_child
from kvsim.processes.marked import kill_marked
from kvsim.processes.output import Output
from kvsim.testing.subject.wire import receive, send, unpack_problem

MARK = "KVSIM_VERIFY"  # an environment variable, by which processes that the code starts are found
OWN_END = 2.0  # seconds from the end of the connection to that of a process that ends by itself


class CodeEndedError(BaseException):
    """The code cannot be called any more: it ended its process, sent what is no answer, or ran into the time limit.
    Not an Exception, so that it does not count as an error that the code raised.

    `ended`: how the code itself said that it ended, and `text`; or None.
    """

    def __init__(self, ended: str | None = None, text: str = "") -> None:
        super().__init__(ended, text)
        self.ended, self.text = ended, text


class TimeUpError(CodeEndedError):
    """The time limit."""


class NoAnswerError(CodeEndedError):
    """Something else than an answer came."""


class Remote:
    """Calls of the code behind a channel, each a request and its answer."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.free: list[int] = []  # numbers of objects that are no longer used here

    def describe(self) -> dict[str, Any]:
        """What the code is: the first answer, for which nothing is asked."""
        return self.receive()[0]

    def call(self, name: str, *arrays: Any, **facts: Any) -> tuple[dict[str, Any], list[Any]]:
        """The facts and arrays that a call gives. UnreadableError: it gives none. CodeEndedError: none will come."""
        free = self.free[:]
        del self.free[: len(free)]
        try:
            send(self.channel, {"call": name, "free": free, **facts}, arrays)
        except TimeoutError:
            raise TimeUpError from None
        except OSError:
            raise CodeEndedError from None
        return self.receive()

    def receive(self) -> tuple[dict[str, Any], list[Any]]:
        """The facts and arrays of the next answer; errors as of `call`."""
        try:
            facts, arrays = receive(self.channel)
            if "problem" in facts:
                raise unpack_problem(facts)
        except TimeoutError:
            raise TimeUpError from None
        except (EOFError, OSError):
            raise CodeEndedError from None
        except FrameError:
            raise NoAnswerError from None
        if "ended" in facts:
            raise CodeEndedError(str(facts["ended"]), " ".join(str(facts.get("text", ""))[:300].split()))
        return facts, arrays

    def array(self, name: str, *arrays: Any, **facts: Any) -> Any:
        """The one array that a call gives."""
        found = self.call(name, *arrays, **facts)[1]
        if len(found) != 1:
            raise NoAnswerError
        return found[0]

    def object(self, name: str, *arrays: Any, **facts: Any) -> "RemoteObject":
        """The object that a call makes, which stays where it is."""
        number = self.call(name, *arrays, **facts)[0].get("number")
        if type(number) is not int:
            raise NoAnswerError
        return RemoteObject(self, number)


class RemoteObject:
    """An object of the code; it is given up when this one is."""

    def __init__(self, remote: Remote, number: int) -> None:
        self.remote, self.number = remote, number
        weakref.finalize(self, remote.free.append, number).atexit = False

    def update(self, layer: int, keys: Any, values: Any) -> Any:
        """The keys and values that a cache returns."""
        found = self.remote.call("update", keys, values, number=self.number, layer=layer)[1]
        if len(found) != 2:
            raise NoAnswerError
        return found

    def crop(self, length: int) -> "RemoteObject":
        """The object after it was cropped: this one, or a new one."""
        number = self.remote.call("crop", number=self.number, length=length)[0].get("number")
        if number == self.number:
            return self
        if type(number) is not int:
            raise NoAnswerError
        return RemoteObject(self.remote, number)

    def fork(self) -> "RemoteObject":
        """A fork of it."""
        return self.remote.object("fork", number=self.number)


def reorder(objects: list[RemoteObject], order: list[int]) -> list[RemoteObject]:
    """New objects, one for each place of the order."""
    remote = objects[0].remote
    numbers = remote.call("reorder", numbers=[one.number for one in objects], order=order)[0].get("numbers")
    if not isinstance(numbers, list) or len(numbers) != len(order) or not all(type(n) is int for n in numbers):
        raise NoAnswerError
    return [RemoteObject(remote, number) for number in numbers]


class Process(NamedTuple):
    """The process of the code."""

    remote: Remote
    child: Any
    out: Output
    errors: Output
    mark: str

    def own_code(self) -> int | None:
        """Its exit code, once it has closed the connection; None: it does not end by itself. Killed at once, it would
        have the code of that."""
        try:
            found: int = self.child.process.wait(OWN_END)
        except subprocess.TimeoutExpired:
            return None
        return found

    def end(self) -> None:
        """End it, and what it has started."""
        end_child(self.child)
        kill_marked(self.mark)


def start_process(
    path: Path, name: str, seed: int, seconds: float, module: str = "kvsim.testing.subject.serving"
) -> Process:
    """Start a process for what the file calls `name`, in which `module` answers; `seconds` from now, every call ends
    with TimeUpError."""
    mark = f"{MARK}={secrets.token_hex(16)}"
    environment = os.environ | {MARK: mark.partition("=")[2]}
    child = start_child(module, str(path), name, str(seed), str(time.time() + seconds),
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)  # fmt: skip
    child.channel.until = time.monotonic() + seconds
    out, errors = child.process.stdout, child.process.stderr
    assert out is not None
    assert errors is not None
    return Process(Remote(child.channel), child, Output(out), Output(errors), mark)
