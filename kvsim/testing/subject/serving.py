"""The process of the code under test: it loads a file and answers calls of what the file defines, until the other end
closes. It judges nothing."""

import contextlib
import faulthandler
import inspect
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kvsim.processes.channel import Channel
from kvsim.processes.child import own_end
from kvsim.testing.subject.attention import read_copy
from kvsim.testing.subject.calls import UnreadableError, call, describe_error, to_host
from kvsim.testing.subject.methods import MethodCalls, find_edits
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.subject.wire import (
    ATTENTION,
    CACHE,
    DECODER,
    LETTERS,
    QUANTISER,
    Returned,
    pack,
    pack_problem,
    receive,
)

UNREADABLE, NOT_STARTED, BROKEN = "unreadable", "not started", "broken"  # how the code can end before it is judged
ASKED = ("bits", "axis", "group", "symmetric")  # what a quantiser may say of itself
MOST_NAMES = 20  # of a file, in a message


class EndedError(Exception):
    """The code cannot be checked further: how it ended, and the text."""


def kind_of(thing: Any) -> str:
    """ATTENTION, CACHE, QUANTISER or DECODER."""
    if not inspect.isclass(thing):
        return ATTENTION
    if hasattr(thing, "update"):
        return CACHE
    return QUANTISER if hasattr(thing, "quantise") and hasattr(thing, "dequantise") else DECODER


def forward(decoder: Any, ids: list[int]) -> Any:
    """One step of a decoder: `decoder.forward(ids)`, or `decoder(ids)`. TypeError: it has neither."""
    if not (hasattr(decoder, "forward") or callable(decoder)):
        raise TypeError(f"a decoder has forward(ids), or is called with ids: {type(decoder).__name__} has neither")
    return decoder.forward(ids) if hasattr(decoder, "forward") else decoder(ids)


def module_name(path: Path) -> str:
    """The name under which a file is loaded: its own, unless a module that is not beside it has that name."""
    own = path.stem
    taken = own in sys.modules or own in sys.stdlib_module_names or (own.isidentifier() and find_spec(own) is not None)
    return f"{own} (verified)" if taken else own


def load(path: Path) -> ModuleType:
    """The file as a module. Modules beside it can be imported, but come after all others: a file random.py there must
    not take the place of Python's. Raises whatever the code raises: SyntaxError, SystemExit ..."""
    name = module_name(path)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent.absolute()))
    spec.loader.exec_module(module)
    return module


def describe(path: Path, name: str) -> tuple[Any, dict[str, Any]]:
    """What the file calls `name`, and how it is to be checked. EndedError: the file cannot be loaded, or what is found
    cannot be looked at."""
    try:
        module = load(path)
    except BaseException as error:
        raise EndedError(UNREADABLE, describe_error(error)) from error
    with ended_by_errors():
        thing = getattr(module, name, None)
        if not callable(thing):
            own = [
                n for n, x in vars(module).items() if callable(x) and getattr(x, "__module__", "") == module.__name__
            ]
            return None, {"known": [n[:80] for n in own[:MOST_NAMES]]}
        kind = kind_of(thing)
        facts: dict[str, Any] = {"kind": kind, "called": str(getattr(thing, "__name__", type(thing).__name__))[:80]}
        if kind == ATTENTION:
            layout = getattr(thing, "layout", "b t h d")
            facts["layout"] = (layout if isinstance(layout, str) else repr(layout))[:LETTERS]
            facts["windows"] = "window" in inspect.signature(thing).parameters
        elif kind == DECODER:
            facts["windows"] = bool(getattr(thing, "has_window", False))
        elif kind == QUANTISER:
            facts["asked"] = {one: plain(getattr(thing, one)) for one in ASKED if hasattr(thing, one)}
        if kind in (CACHE, DECODER):
            facts["edits"] = list(find_edits(thing))
    return thing, facts


def plain(value: Any) -> bool | int | str:
    """The value as JSON has it, whole numbers of any library as int; anything else as its text."""
    if isinstance(value, bool | str):
        return value if isinstance(value, bool) else value[:LETTERS]
    return int(value) if hasattr(value, "__index__") else repr(value)[:80]


@contextlib.contextmanager
def ended_by_errors() -> Any:
    """EndedError instead of any error inside the block but UnreadableError and itself: KeyboardInterrupt too,
    which in this process only the code under test raises."""
    try:
        yield
    except (UnreadableError, EndedError):
        raise
    except NotImplementedError as error:
        raise EndedError(NOT_STARTED, describe_error(error)) from error
    except BaseException as error:
        raise EndedError(BROKEN, describe_error(error)) from error


class Server(MethodCalls):
    """Answers the calls that are named like its methods. Objects that the code makes stay here, under numbers."""

    def __init__(self, thing: Any, seed: int) -> None:
        self.thing, self.seed = thing, seed
        self.kept: dict[int, Any] = {}
        self.made = 0
        self.weights: dict[int | None, ModelWeights] = {}  # by the window of the model
        self.copies: dict[str, Any] = {}

    def keep(self, x: Any) -> dict[str, Any]:
        """Keep an object; its number."""
        self.made += 1
        self.kept[self.made] = x
        return {"number": self.made}

    def attend(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        words = {"window": facts["window"]} if facts["window"] else {}
        copies = [x.copy() for x in arrays]
        result = to_host(call(self.thing, *arrays, **words))  # a copy, before the inputs are looked at
        for name, x, before in zip("qkv", arrays, copies, strict=True):
            if not np.array_equal(read_copy(x), before):
                raise UnreadableError("attention changed its input {name}", name=name)
        return {}, [rounded(*result)]

    def make(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        """A cache, or a decoder made from weights if its constructor takes any."""
        with ended_by_errors():
            takes_weights = kind_of(self.thing) == DECODER and len(inspect.signature(self.thing).parameters) >= 1
        if not takes_weights:
            return self.keep(call(self.thing)), []
        weights = self.weights_of(facts["window"])
        try:
            return self.keep(call(self.thing, weights)), []
        finally:
            self.check_weights()  # reported before whatever else is wrong

    def weights_of(self, window: int | None) -> ModelWeights:
        """The weights for a window: the same object for every call."""
        if not self.copies:
            self.weights[None] = made = make_weights(seed=self.seed)
            self.copies = {name: x.copy() for name, x in made.items()}
        if window not in self.weights:
            self.weights[window] = self.weights[None].with_window(window)
        return self.weights[window]

    def check_weights(self) -> None:
        """UnreadableError: the code has changed its weights."""
        for weights in self.weights.values():
            for name, copy in self.copies.items():
                if not np.array_equal(read_copy(weights.get(name)), copy):
                    error = UnreadableError("the weights were changed by make or step: {name}", name=name)
                    error.problem = error.problem._replace(fatal=True)
                    raise error

    def step(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        ids = list(facts["ids"])
        try:
            result = to_host(call(forward, self.kept[facts["number"]], ids))
        finally:
            self.check_weights()
        if ids != facts["ids"]:
            raise UnreadableError("step changed the list of ids that it was given: it now holds {ids}", ids=ids)
        return {}, [rounded(*result)]

    def update(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        held = call(self.kept[facts["number"]].update, facts["layer"], *arrays)
        if not isinstance(held, list | tuple) or len(held) != 2:
            raise UnreadableError("update gave {got}, expected keys and values", got=type(held).__name__)
        return {}, list(held)

    def quantiser(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        with ended_by_errors():
            return self.keep(self.thing()), []

    def quantise(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        (x,) = arrays
        before = x.copy()
        packed = call(self.kept[facts["number"]].quantise, x)
        if not np.array_equal(x, before):
            raise UnreadableError("quantise changed its input")
        return self.keep(packed), []

    def dequantise(self, facts: dict[str, Any], arrays: list[Any]) -> Any:
        one, packed = self.kept[facts["number"]], self.kept.pop(facts["packed"])
        return {}, [call(one.dequantise, packed)]


def rounded(values: Any, dtype: str) -> Any:
    """What `to_host` read, for `pack` to read again."""
    return Returned(values, dtype)


def answer(channel: Channel, run: Callable[[], tuple[dict[str, Any], list[Any]]]) -> bool:
    """Send what `run` returns, or what went wrong. False: nothing more can be asked."""
    ended = False
    try:
        with ended_by_errors():  # reading its arrays or making a text of an error runs the code as well
            frames = pack_answer(run)
    except EndedError as error:
        ended, frames = True, pack({"ended": error.args[0], "text": error.args[1]})
    for frame in frames:
        channel.send(frame)
    return not ended


def pack_answer(run: Callable[[], tuple[dict[str, Any], list[Any]]]) -> list[bytes]:
    """The frames of what `run` returns, or of its problem."""
    try:
        return pack(*run())
    except UnreadableError as error:
        return pack(pack_problem(error.problem))


def serve(channel: Channel, path: Path, name: str, seed: int) -> None:
    """Load the file, describe what it calls `name`, then answer calls until the other end closes."""
    found: list[Any] = []

    def begin() -> tuple[dict[str, Any], list[Any]]:
        thing, facts = describe(path, name)
        found.append(thing)
        return facts, []

    if not answer(channel, begin):
        return
    server = Server(found[0], seed)
    methods = (
        server.attend, server.make, server.step, server.update, server.clear, server.crop, server.fork, server.reorder,
        server.quantiser, server.quantise, server.dequantise,
    )  # fmt: skip
    calls = {f.__name__: f for f in methods}
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            facts, arrays = receive(channel)
            for number in facts["free"]:
                server.kept.pop(number, None)
            if not answer(channel, partial(calls[facts["call"]], facts, arrays)):
                return


def main(arguments: list[str]) -> None:
    """Serve, and end the process at once: threads that the code started may never end. Shortly before the time limit
    the stack is written to what stderr is at the start."""
    path, name, seed, until = arguments
    sys.argv = [""]
    channel, errors = own_end(), os.dup(2)
    faulthandler.dump_traceback_later(max(0.9 * (float(until) - time.time()), 0.001), file=errors)
    serve(channel, Path(path), name, int(seed))
    faulthandler.cancel_dump_traceback_later()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)
