"""Requests to the process of the code under test, and its answers: JSON, then arrays as bytes.

What comes from that process is data to check, never an instruction: messages are among PROBLEMS, arrays have a size
that is known before they are read, and nothing is unpickled.
"""

import math
from collections.abc import Sequence
from json import dumps, loads
from typing import Any

import numpy as np

from kvsim.processes.channel import Channel, FrameError
from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.subject.calls import Problem, UnreadableError, to_host

ATTENTION, CACHE, DECODER, QUANTISER = "attention", "cache", "decoder", "quantiser"
KINDS = (ATTENTION, CACHE, DECODER, QUANTISER)
HEAD = 2**16  # bytes of JSON
NUMBERS = 2**20  # of one array: a thousand times what a check asks for
AXES = 64  # as many as an array of any NumPy has
LETTERS = 1000  # of one value in a message

# Every message about the code that its process may send, without values.
PROBLEMS = {
    problem.template
    for problem in (
        Problem("{name} raised {error}", {}),
        Problem("{name} raised {error} (line {line})", {}),
        Problem("{name} cannot be called with {count} arguments{words}: {error}", {}),
        Problem("the result {type} is on the device {device}, expected one on the host, as x.cpu() gives it", {}),
        Problem("the result {type} cannot be read as an array: {error}", {}),
        Problem("the result is an array of {dtype}, expected floating point numbers", {}),
        Problem("the result has {count} numbers, more than the {limit} that are read", {}),
        Problem("attention changed its input {name}", {}),
        Problem("quantise changed its input", {}),
        Problem("step changed the list of ids that it was given: it now holds {ids}", {}),
        Problem("the weights were changed by make or step: {name}", {}),
        Problem("update gave {got}, expected keys and values", {}),
        Problem("{name} gave {got}, expected an object of {cls}", {}),
        Problem("{name} gave {got}, expected a list of {count} objects", {}),
    )
}


class Returned:
    """An array in float64 that was of another dtype in the process of the code; `to_host` reads it so."""

    def __init__(self, values: Any, dtype: str) -> None:
        self.values, self.dtype = values, dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.values, dtype=dtype)


def pack(facts: dict[str, Any], arrays: Sequence[Any] = ()) -> list[bytes]:
    """The frames of facts and arrays of any library. UnreadableError: one cannot be read, or is too large."""
    read = [to_host(x) for x in arrays]
    for values, _ in read:
        if values.size > NUMBERS:
            raise UnreadableError(
                "the result has {count} numbers, more than the {limit} that are read", count=values.size, limit=NUMBERS
            )
    head = {"facts": facts, "arrays": [[list(values.shape), dtype] for values, dtype in read]}
    return [dumps(head).encode(), *(np.ascontiguousarray(values).tobytes() for values, _ in read)]


def send(channel: Channel, facts: dict[str, Any], arrays: Sequence[Any] = ()) -> None:
    """Send facts and arrays. UnreadableError, before anything is sent: as `pack`."""
    for frame in pack(facts, arrays):
        channel.send(frame)


def receive(channel: Channel) -> tuple[dict[str, Any], list[Any]]:
    """Facts, and arrays as NumPy's or Returned. EOFError: the other end is closed. FrameError: anything else than what
    `send` sends."""
    try:
        head = loads(channel.receive(HEAD))
        facts, described = head["facts"], head["arrays"]
        if not isinstance(facts, dict) or not isinstance(described, list) or len(described) > 3:
            raise FrameError
        return facts, [_receive_array(channel, *one) for one in described]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FrameError from error


def _receive_array(channel: Channel, shape: Any, dtype: Any) -> Any:
    sizes = isinstance(shape, list) and len(shape) <= AXES and all(type(n) is int and 0 <= n <= NUMBERS for n in shape)
    if not sizes or math.prod(shape) > NUMBERS or dtype not in FORMATS:
        raise FrameError
    data = channel.receive(8 * math.prod(shape))
    values = np.frombuffer(data, np.float64).reshape(shape).copy()
    return values if dtype == "float64" else Returned(values, dtype)


def pack_problem(problem: Problem) -> dict[str, Any]:
    """A problem as facts; its values as text, which is shortened here since longer facts than HEAD are no answer."""
    raised = problem.values.get("raised")
    values = {key: str(value)[:LETTERS] for key, value in problem.values.items() if key != "raised"}
    return {"problem": problem.template, "values": values, "fatal": problem.fatal,
            "unwritten": raised is NotImplementedError}  # fmt: skip


def unpack_problem(facts: dict[str, Any]) -> UnreadableError:
    """The error of these facts. FrameError: no known message, or values that are no text or not its own."""
    template, values = facts["problem"], facts.get("values")
    if not isinstance(template, str) or template not in PROBLEMS or not isinstance(values, dict):
        raise FrameError
    if not all(isinstance(value, str) for value in values.values()):
        raise FrameError
    shown: dict[str, Any] = {key: " ".join(value[:LETTERS].split()) for key, value in values.items()}
    try:
        template.format(**shown)
    except (KeyError, IndexError) as error:
        raise FrameError from error
    found = UnreadableError(template, **shown)
    more = {"raised": NotImplementedError} if facts.get("unwritten") is True else {}
    found.problem = Problem(template, shown | more, facts.get("fatal") is True)
    return found
