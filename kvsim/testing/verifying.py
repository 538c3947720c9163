"""`kvsim verify FILE.py:NAME`: a function or class of a user's file, run in a separate process and judged in this one.

A function is attention; a class with `update` is a cache for the small decoder; one with `quantise` and `dequantise`
is a quantiser; any other class is a decoder made from weights.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import FileError, UsageError, shortened
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.checks.decoders import assert_split_invariant
from kvsim.testing.checks.edits import assert_edits
from kvsim.testing.checks.quantisers import assert_quantiser
from kvsim.testing.feeds.chunking import Texts
from kvsim.testing.feeds.feeding import Make, Step
from kvsim.testing.foreign import WithCache, empty
from kvsim.testing.subject import serving
from kvsim.testing.subject.calls import UnreadableError
from kvsim.testing.subject.methods import EDITS
from kvsim.testing.subject.remote import (
    CodeEndedError,
    NoAnswerError,
    Process,
    Remote,
    RemoteObject,
    TimeUpError,
    reorder,
    start_process,
)
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.subject.wire import ATTENTION, CACHE, DECODER, KINDS, QUANTISER
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure
from kvsim.testing.verdict.text import speak

FINE, WRONG, NOT_STARTED, BROKEN = "fine", "wrong", serving.NOT_STARTED, serving.BROKEN
MOST_BITS, MOST_GROUP = 64, 512  # of a quantiser


class Found(NamedTuple):
    """The result of a check.

    `ended`: FINE, WRONG, NOT_STARTED or BROKEN; `text`: the failure; `printed`: the output of the code itself; `kind`:
    what it was taken for, None if it ended before that was known; `facts`: of an OracleError; `edits`: those after
    which it is right, too; `failure`: the record of an OracleError; `target`: what was asked for.
    """

    ended: str
    text: str
    printed: str = ""
    kind: str | None = None
    facts: Mapping[str, Any] = MappingProxyType({})
    edits: tuple[str, ...] = ()
    failure: Failure | None = None
    target: str = ""
    seed: int = 0

    def __repr__(self) -> str:
        return f"Found({self.ended}, {self.kind}, {shortened(self.text)})"


def check(remote: Remote, about: dict[str, Any], wanted: Texts) -> tuple[str, ...]:
    """Run the checks for this kind of code; the edits that were tried. OracleError: one fails. UsageError: what the
    code says of itself does not fit together."""
    windows = (None, 4) if about.get("windows") is True else (None,)
    edits = edits_of(about)
    checks: dict[str, Callable[[], tuple[str, ...] | None]] = {
        CACHE: lambda: check_cache(remote, edits, wanted),
        DECODER: lambda: check_decoder(remote, windows, edits, wanted),
        QUANTISER: lambda: check_quantiser(remote, about.get("asked"), wanted.seed),
        ATTENTION: lambda: check_attention(remote, about, windows, wanted),
    }
    return checks[about["kind"]]() or ()


def check_attention(remote: Remote, about: dict[str, Any], windows: tuple[int | None, ...], wanted: Texts) -> None:
    """OracleError: the function is wrong."""

    def attention(*arrays: Any, window: int | None = None) -> Any:
        return remote.array("attend", *arrays, window=window)

    attention.__name__ = str(about.get("called"))[:80]
    for window in windows:
        assert_attention(attention, str(about.get("layout")), heads=4, kv_heads=2, window=window,
                         **wanted._asdict())  # fmt: skip


def check_cache(remote: Remote, edits: tuple[str, ...], wanted: Texts) -> tuple[str, ...]:
    """The edits that were tried. OracleError: a decoder with this cache is wrong."""
    weights = make_weights(seed=wanted.seed)

    def make() -> WithCache:
        return WithCache(weights, remote.object("make", window=None))

    def forward(decoder: WithCache, ids: list[int]) -> Any:
        return decoder.forward(ids)

    assert_split_invariant(make, forward, weights, clear=WithCache.empty, **wanted._asdict())
    made = {"crop": WithCache.crop, "fork": WithCache.fork, "reorder": WithCache.reorder}
    return check_edits(make, forward, weights, {edit: made[edit] for edit in edits}, wanted.seed)


def check_decoder(
    remote: Remote, windows: tuple[int | None, ...], edits: tuple[str, ...], wanted: Texts
) -> tuple[str, ...]:  # fmt: skip
    """The edits that were tried. OracleError: the decoder is wrong."""

    def make(weights: ModelWeights) -> Any:
        return remote.object("make", window=weights.config.window)

    def forward(decoder: Any, ids: list[int]) -> Any:
        return remote.array("step", number=decoder.number, ids=list(ids))

    weights = make_weights(seed=wanted.seed)
    assert_split_invariant(make, forward, weights, windows=windows, clear=empty, **wanted._asdict())
    made = {"crop": RemoteObject.crop, "fork": RemoteObject.fork, "reorder": reorder}
    for window in windows:
        one = weights.with_window(window)
        edits = check_edits(partial(make, one), forward, one, {edit: made[edit] for edit in edits}, wanted.seed)
    return edits


def check_edits(make: Make, step: Step, weights: ModelWeights, edits: dict[str, Any], seed: int) -> tuple[str, ...]:
    """The edits that were tried: one that raises NotImplementedError is left out. OracleError: what a decoder gives
    after an edit is wrong."""
    tried = []
    for name, edit in edits.items():
        try:
            assert_edits(make, step, weights, seed=seed, **{name: edit})
            tried.append(name)
        except OracleError as error:
            if not error.facts.get("unwritten"):
                raise
    return tuple(tried)


def edits_of(about: dict[str, Any]) -> tuple[str, ...]:
    """The edits for which the code has methods, as it says."""
    said = about.get("edits")
    return tuple(edit for edit in EDITS if isinstance(said, list) and edit in said)


def check_quantiser(remote: Remote, asked: Any, seed: int) -> None:
    """OracleError: the quantiser is wrong. UsageError: its bits, axis or group are not those of a quantiser."""
    said = asked if isinstance(asked, dict) else {}
    bits, group = said.get("bits", 8), said.get("group", 64)
    axis, symmetric = str(said.get("axis", "channel")), bool(said.get("symmetric", True))
    whole = type(bits) is int and type(group) is int
    if not whole or not 2 <= bits <= MOST_BITS or not 1 <= group <= MOST_GROUP:
        raise UsageError(
            "bits is from 2 to {bits} and group from 1 to {group}, got {got}", bits=MOST_BITS, group=MOST_GROUP,
            got=[bits, group],
        )  # fmt: skip
    one = remote.object("quantiser")

    def quantise(x: Any) -> Any:
        return remote.object("quantise", x, number=one.number)

    def dequantise(packed: Any) -> Any:
        return remote.array("dequantise", number=one.number, packed=packed.number)

    assert_quantiser(quantise, dequantise, bits=bits, axis=axis, group=group, symmetric=symmetric, seed=seed)


def split_target(target: str) -> tuple[Path, str]:
    """The path and the name in FILE.py:NAME. UsageError: another form. FileError: there is no such file."""
    path, _, name = target.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise UsageError("verify takes FILE.py:NAME, got {target}", target=repr(target))
    if not Path(path).is_file():
        raise FileError("{path}: no such file", path=path)
    return Path(path), name


def verify(target: str, seed: int = 0, seconds: float = 60.0, cases: int = 0, length: int = 0) -> Found:
    """Check `target`, "FILE.py:NAME", in a separate process without input; all its calls together may take `seconds`.
    `seed`, `cases` and `length`: as `kvsim.testing.assert_policy` takes them.

    The process returns arrays, from which the result is formed here. UsageError: the file has nothing of that name, or
    what it has cannot be checked. FileError: the file cannot be imported.
    """
    path, name = split_target(target)
    process = start_process(path, name, seed, seconds)
    about: dict[str, Any] = {}
    try:
        found = judge(process.remote, path, name, Texts(cases, seed, length), about)
    except CodeEndedError as ended:
        found = Found(BROKEN, describe_end(ended, process, path, seconds))
    finally:
        process.end()
    return found._replace(printed=process.out.text(), kind=about.get("kind"), target=target, seed=seed)


def judge(remote: Remote, path: Path, name: str, wanted: Texts, about: dict[str, Any]) -> Found:
    """The result of a check of the code behind `remote`. What is known of the code is added to `about` before any of it
    is called. CodeEndedError: the code ended before the check did."""
    try:
        about |= describe(remote, path, name)
        with np.errstate(all="ignore"):  # the numbers of the code may be of any size
            edits = check(remote, about, wanted)
    except UnreadableError as error:  # outside any check: an error where the code itself is not called
        raise NoAnswerError from error
    except OracleError as error:
        ended = NOT_STARTED if error.facts.get("unwritten") else WRONG
        return Found(ended, str(error), facts=error.facts, failure=error.failure)
    except CodeEndedError as error:
        if error.ended == serving.UNREADABLE:
            raise FileError("{path} cannot be imported: {error}", path=path, error=error.text) from None
        if error.ended not in (NOT_STARTED, BROKEN):
            raise
        return Found(error.ended, error.text)
    return Found(FINE, "", edits=edits)


def describe(remote: Remote, path: Path, name: str) -> dict[str, Any]:
    """What the code says of itself. UsageError: the file has nothing of that name."""
    about = remote.describe()
    if isinstance(known := about.get("known"), list):
        if not known:
            raise UsageError("{path} defines no function or class", path=str(path))
        raise UsageError("{path} has no function or class {name}, but {known}", path=str(path), name=name,
                         known=", ".join(str(one)[:80] for one in known[:20]))  # fmt: skip
    if about.get("kind") not in KINDS:
        raise NoAnswerError
    return about


def describe_end(ended: CodeEndedError, process: Process, path: Path, seconds: float) -> str:
    """Why there is no result: the time limit, or how the process ended."""
    say = speak()
    if isinstance(ended, TimeUpError):
        process.end()
        when = say("it did not end within {seconds} s").format(seconds=f"{seconds:g}")
        place = find_place(path, process.errors.text())
        return f"{when} ({place})" if place else when
    if isinstance(ended, NoAnswerError):
        return say("its process sent something else than an answer")
    if (code := process.own_code()) is None:
        return say("it closed the connection on which its results are read")
    return say("it ended its own process, with exit code {code}").format(code=code)


def find_place(path: Path, stack: str) -> str:
    """The innermost line of the file on a written stack, as in "line 3 in attention"; "" if there is none."""
    own = f'File "{path.absolute()}"'
    written = stack.rpartition("Timeout (")[2].splitlines()
    return next((line.partition('", ')[2][:200] for line in written if own in line), "")
