"""`kvsim verify FILE.py:NAME`: a function or class of a user's file, checked in a separate process.

A function is attention; a class with `update` is a cache for the small decoder; one with `quantise` and `dequantise`
is a quantiser; any other class is a decoder made from weights. `python -m kvsim.testing.verifying` is the separate
process: it writes its result to a file.
"""

import contextlib
import faulthandler
import inspect
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import FileError, UsageError, shortened
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.checks.decoders import assert_split_invariant
from kvsim.testing.checks.quantisers import assert_quantiser
from kvsim.testing.feeds.chunking import Texts
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows
from kvsim.testing.subject.calls import UnreadableError, call, describe_error, to_host
from kvsim.testing.subject.clearing import find_clear
from kvsim.testing.subject.process import run_process
from kvsim.testing.subject.weights import ModelWeights, Sizes, make_weights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.text import speak

ATTENTION, CACHE, DECODER, QUANTISER = "attention", "cache", "decoder", "quantiser"
FINE, WRONG, NOT_STARTED, BROKEN = "fine", "wrong", "not started", "broken"
UNREADABLE, REFUSED = "unreadable", "refused"  # raised as FileError and UsageError


class Found(NamedTuple):
    """The result of a check.

    `ended`: FINE, WRONG, NOT_STARTED or BROKEN; `text`: the failure; `printed`: the output of the code itself; `kind`:
    what it was taken for, None if it ended before that was known; `facts`: of an OracleError.
    """

    ended: str
    text: str
    printed: str = ""
    kind: str | None = None
    facts: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"Found({self.ended}, {self.kind}, {shortened(self.text)})"


class ForeignRows(Rows):
    """A cache under test: `update(layer, keys, values)` takes the new rows [G, T, K], rotated, and returns all rows
    that it holds, the newest last."""

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        update = self.decoder.foreign.update  # type: ignore[attr-defined]
        held = call(update, self.layer, np.stack(keys, axis=1), np.stack(values, axis=1))
        if not isinstance(held, list | tuple) or len(held) != 2:
            raise UnreadableError("update gave {got}, expected keys and values", got=type(held).__name__)
        all_keys, all_values = (to_host(x)[0] for x in held)
        g, k = keys[0].shape
        shapes = [list(x.shape) for x in (all_keys, all_values)]
        if shapes[0] != shapes[1] or all_keys.ndim != 3 or shapes[0][::2] != [g, k]:
            raise UnreadableError("update gave keys and values of shapes {got}, expected [{g}, rows, {k}] each",
                                  got=shapes, g=g, k=k)  # fmt: skip
        self.keys, self.values = list(all_keys.transpose(1, 0, 2)), list(all_values.transpose(1, 0, 2))
        count, stop = len(self.keys), start + len(keys)
        self.positions = list(range(stop - count, stop))


class WithCache(Decoder):
    """The independent decoder with a cache under test."""

    caches = POLICIES | {"dynamic": ForeignRows}

    def __init__(self, weights: ModelWeights, cache: Any) -> None:
        self.foreign = cache
        super().__init__(weights.config.to_config(), weights.to_weights())

    def empty(self) -> None:
        """Empty the cache by a method of its own. NotImplementedError: it has none."""
        found = find_clear(self.foreign, None)
        if found is None:
            raise NotImplementedError
        found[1](self.foreign)
        self.rows, self.seen = self.new_rows(), 0


def kind_of(thing: Any) -> str:
    """ATTENTION, CACHE, QUANTISER or DECODER."""
    if not inspect.isclass(thing):
        return ATTENTION
    if hasattr(thing, "update"):
        return CACHE
    return QUANTISER if hasattr(thing, "quantise") and hasattr(thing, "dequantise") else DECODER


def check(thing: Any, kind: str, wanted: Texts) -> None:
    """Run the checks for this kind. OracleError: one fails."""
    seed, more = wanted.seed, wanted._asdict()
    context = max(Sizes.context, wanted.length)
    if kind == CACHE:
        weights = make_weights(seed=seed, context=context)
        assert_split_invariant(lambda: WithCache(weights, call(thing)), forward, weights, clear=WithCache.empty,
                               **more)  # fmt: skip
    elif kind == QUANTISER:
        asked = {name: getattr(thing, name) for name in ("bits", "axis", "group", "symmetric") if hasattr(thing, name)}
        one: Any = thing()
        assert_quantiser(one.quantise, one.dequantise, seed=seed, **asked)
    elif kind == DECODER:
        check_decoder(thing, make_weights(seed=seed, context=context), wanted)
    else:
        names = inspect.signature(thing).parameters
        layout = getattr(thing, "layout", "b t h d")
        for window in (None, 4) if "window" in names else (None,):
            assert_attention(thing, layout, heads=4, kv_heads=2, window=window, **more)


def forward(decoder: Any, ids: list[int]) -> Any:
    """One step of a decoder: `decoder.forward(ids)`, or `decoder(ids)`. TypeError: it has neither."""
    if not (hasattr(decoder, "forward") or callable(decoder)):
        raise TypeError(f"a decoder has forward(ids), or is called with ids: {type(decoder).__name__} has neither")
    return decoder.forward(ids) if hasattr(decoder, "forward") else decoder(ids)


def check_decoder(thing: Any, weights: ModelWeights, wanted: Texts) -> None:
    """Check a class that is made from weights, if its constructor takes any. OracleError: it is wrong."""
    takes_weights = len(inspect.signature(thing).parameters) >= 1
    windows = (None, 4) if getattr(thing, "has_window", False) else (None,)
    make = thing if takes_weights else lambda _: call(thing)
    assert_split_invariant(make, forward, weights, windows=windows, **wanted._asdict())


def split_target(target: str) -> tuple[Path, str]:
    """The path and the name in FILE.py:NAME. UsageError: another form. FileError: there is no such file."""
    path, _, name = target.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise UsageError("verify takes FILE.py:NAME, got {target}", target=repr(target))
    if not Path(path).is_file():
        raise FileError("{path}: no such file", path=path)
    return Path(path), name


def verify(target: str, seed: int = 0, seconds: float = 60.0, cases: int = 0, length: int = 0) -> Found:
    """Check `target`, "FILE.py:NAME", in a separate process without input and with a time limit of `seconds`. `seed`,
    `cases` and `length`: as `kvsim.testing.assert_policy` takes them.

    UsageError: the file has nothing of that name, or what it has cannot be checked. FileError: the file cannot be
    imported.
    """
    path, name = split_target(target)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        until = str(time.time() + seconds)
        wanted = map(str, Texts(cases, seed, length))
        command = [sys.executable, "-m", "kvsim.testing.verifying", str(path), name, *wanted, until, str(out)]
        done = run_process(command, seconds)
        found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        place = find_place(path, stack_file(out))
        kind = (kind_file(out).read_text(encoding="utf-8") if kind_file(out).exists() else "") or None
    if not found:
        return Found(BROKEN, describe_end(done.code, seconds, place), done.out, kind)
    if found["ended"] == UNREADABLE:
        raise FileError("{path} cannot be imported: {error}", path=path, error=found["text"])
    if found["ended"] == REFUSED:
        raise UsageError(found["template"], **found["values"])
    return Found(found["ended"], found["text"], done.out, kind, found.get("facts", {}))


def stack_file(out: Path) -> Path:
    """The file to which the process writes its stack shortly before its time limit."""
    return out.with_suffix(".stack")


def kind_file(out: Path) -> Path:
    """The file to which the process writes the kind before it calls the code, which may never return."""
    return out.with_suffix(".kind")


def find_place(path: Path, stack: Path) -> str:
    """The innermost line of the file on a written stack, as in "line 3 in attention"; "" if there is none."""
    own = f'File "{path.absolute()}"'
    written = stack.read_text(encoding="utf-8", errors="replace").splitlines() if stack.exists() else []
    return next((line.partition('", ')[2] for line in written if own in line), "")


def describe_end(code: int | None, seconds: float, place: str) -> str:
    """Why there is no result: the time limit (`code` is None), or the exit code of the process."""
    say = speak()
    if code is None:
        when = say("it did not end within {seconds} s").format(seconds=f"{seconds:g}")
        return f"{when} ({place})" if place else when
    return say("it ended its own process, with exit code {code}").format(code=code)


def load(path: Path) -> Any:
    """The file as a module. Raises whatever the code raises: SyntaxError, SystemExit ..."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def run_here(path: Path, name: str, wanted: Texts, note_kind: Callable[[str], Any]) -> dict[str, Any]:
    """The result of the separate process: {"ended", "text"}, with the facts of an OracleError; or {"ended", "template",
    "values"} of a UsageError."""
    try:
        module = load(path)
    except (Exception, SystemExit) as error:
        return {"ended": UNREADABLE, "text": describe_error(error)}
    try:
        thing = getattr(module, name, None)
        if not callable(thing):
            known = [n for n, x in vars(module).items() if callable(x) and getattr(x, "__module__", "") == path.stem]
            if not known:
                raise UsageError("{path} defines no function or class", path=str(path))
            raise UsageError("{path} has no function or class {name}, but {known}", path=str(path), name=name,
                             known=", ".join(known))  # fmt: skip
        kind = kind_of(thing)
        note_kind(kind)
        check(thing, kind, wanted)
    except NotImplementedError as error:
        return {"ended": NOT_STARTED, "text": describe_error(error)}
    except OracleError as error:
        ended = NOT_STARTED if error.facts.get("unwritten") else WRONG
        return {"ended": ended, "text": str(error), "facts": error.facts}
    except UsageError as error:
        values = {key: str(value) for key, value in error.values.items()}
        return {"ended": REFUSED, "template": error.template, "values": values}
    except (Exception, SystemExit) as error:
        return {"ended": BROKEN, "text": describe_error(error)}
    return {"ended": FINE, "text": ""}


def main(arguments: list[str]) -> None:
    """Write the result to a file and end the process at once: threads that the code started may never end."""
    path, name, cases, seed, length, until, out = arguments
    wanted = Texts(int(cases), int(seed), int(length))
    left = float(until) - time.time()  # of the time limit, part of which the start of this process has taken
    with stack_file(Path(out)).open("w") as stack:
        faulthandler.dump_traceback_later(max(0.9 * left, 0.001), file=stack)
        found = run_here(Path(path), name, wanted, kind_file(Path(out)).write_text)
        faulthandler.cancel_dump_traceback_later()
    whole = Path(out).with_suffix(".part")
    whole.write_text(json.dumps(found), encoding="utf-8")
    whole.replace(out)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
