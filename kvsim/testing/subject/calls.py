"""Calls of the code under test: its results as NumPy arrays, and what is wrong before any number is compared."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.subject.limits import TimeLimitError

Chunks = list[list[int]]  # the token ids of one text, cut into chunks


class Problem(NamedTuple):
    """Why there is nothing to compare: a message template and its values. `fatal`: the check calls nothing after it."""

    template: str
    values: dict[str, Any]
    fatal: bool = False


class RunOutput(NamedTuple):
    """The result of one run: logits [T, V] in float64, None if there was a problem, and the dtype of the originals."""

    logits: Any
    dtype: str
    problem: Problem | None = None


class UnreadableError(Exception):
    """A call without a result that can be compared; `problem` says why."""

    fatal = False

    def __init__(self, template: str, **values: Any) -> None:
        super().__init__(template)
        self.problem = Problem(template, values, self.fatal)


class ShapeError(UnreadableError):
    """A result of the wrong shape. Fatal: in another feed the shape may be right only by coincidence."""

    fatal = True


class CallTimeoutError(UnreadableError):
    """A call ran into its time limit. Fatal: the next call may take as long again."""

    fatal = True


def to_host(x: Any) -> tuple[Any, str]:
    """A copy of any library's array as a NumPy array in float64, and the name of its dtype ("float64" if it is none of
    `FORMATS`). UnreadableError: not an array of floating point numbers, or not on the host."""
    if hasattr(x, "detach"):
        x = x.detach()
    name = str(getattr(x, "dtype", "float64")).rpartition(".")[2]
    # NumPy's DLPack import has none of torch's dtypes that NumPy itself lacks.
    if hasattr(x, "float") and name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        x = x.float()
    try:
        array = np.asarray(x) if isinstance(x, np.ndarray | list | tuple) else _import(x)
    except Exception as error:
        if (device := device_of(x)) != "cpu":
            raise UnreadableError(
                "the result {type} is on the device {device}, expected one on the host, as x.cpu() gives it",
                type=type(x).__name__, device=device,
            ) from error  # fmt: skip
        raise UnreadableError(
            "the result {type} cannot be read as an array: {error}", type=type(x).__name__, error=describe_error(error)
        ) from error
    if array.dtype.kind == "O":
        raise UnreadableError(
            "the result {type} cannot be read as an array: {error}", type=type(x).__name__, error=array.dtype
        )
    if array.dtype.kind != "f" and array.dtype.name not in FORMATS:
        raise UnreadableError("the result is an array of {dtype}, expected floating point numbers", dtype=array.dtype)
    wide = np.array(array, dtype=np.float64)
    name = name if name in FORMATS else array.dtype.name
    return wide, name if name in FORMATS else "float64"


def _import(x: Any) -> Any:
    if hasattr(x, "__dlpack__"):
        try:
            return np.from_dlpack(x)
        except (BufferError, TypeError, RuntimeError) as error:
            if not hasattr(x, "__array__"):
                raise RuntimeError(f"{error}: is it on another device? move it to the host") from error
    return np.asarray(x)


def device_of(x: Any) -> str:
    """The device of an array: "cpu" if it has no attribute `device`."""
    device = getattr(x, "device", "cpu")
    return str(getattr(device, "type", device))


def describe_error(error: BaseException) -> str:
    """The type and message of an error in one line of at most 300 characters; the type alone if it has no text, or its
    text cannot be made."""
    try:
        text = f": {error}" if str(error) else ""
    except Exception:  # the code of an error is as foreign as what raised it
        text = ""
    return " ".join(f"{type(error).__name__}{text}".split())[:300]


def call(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What `function` returns. UnreadableError: it does not accept these arguments, raises, exits, or runs into its
    time limit."""
    __tracebackhide__ = True
    name = getattr(function, "__name__", type(function).__name__)
    try:
        return function(*args, **keywords)
    except UnreadableError:
        raise
    except TimeLimitError as error:
        raise CallTimeoutError(
            "{name} did not return within {seconds} s", name=name, seconds=f"{error.seconds:g}"
        ) from None
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError) and not accepts(function, args, keywords):
            raise UnreadableError(
                "{name} cannot be called with {count} arguments{words}: {error}", name=name,
                count=len(args), words="".join(f", {word}=" for word in keywords), error=describe_error(error),
            ) from error  # fmt: skip
        raise UnreadableError(
            "{name} raised {error}", name=name, error=describe_error(error), raised=type(error)
        ) from error


def accepts(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether its signature accepts these arguments; True where it has no signature (C code)."""
    try:
        inspect.signature(function).bind(*args, **keywords)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def run_text(make: Callable[[], Any], step: Callable[[Any, list[int]], Any], text: Chunks, vocab: int) -> RunOutput:
    """Feed `text` in chunks to the state that `make` gives: logits [T, vocab] of all its tokens, or a problem and its
    place."""
    parts, dtypes, number = [], [], 0
    try:
        state = call(make)
        for chunk in text:
            number += 1
            fed = list(chunk)
            logits, dtype = to_host(call(step, state, fed))
            dtypes.append(dtype)
            if fed != chunk:
                raise UnreadableError("step changed the list of ids that it was given: it now holds {ids}", ids=fed)
            if logits.shape != (len(chunk), vocab):
                raise ShapeError("step gave an array of shape {got}, expected [T, V] = {expected}",
                                 got=list(logits.shape), expected=[len(chunk), vocab])  # fmt: skip
            if dtype != dtypes[0]:
                raise UnreadableError("step gave {got} after it gave {before}, expected one dtype", got=dtype,
                                      before=dtypes[0])  # fmt: skip
            parts.append(logits)
    except UnreadableError as error:
        return RunOutput(None, "float64", with_place(error.problem, text, number))
    return RunOutput(np.concatenate(parts), dtypes[0])


def with_place(problem: Problem, text: Chunks, step: int) -> Problem:
    """The problem, with the feed and the step (from 1) in which it occurred among its values."""
    return problem._replace(values=problem.values | {"feed": [len(c) for c in text], "step": step})


def first_nonfinite(logits: Any) -> tuple[int, ...] | None:
    """The index of the first NaN or infinity; None if there is none."""
    places = np.argwhere(~np.isfinite(logits))
    return None if not len(places) else tuple(int(i) for i in places[0])


def max_abs(x: Any) -> float:
    """max |x| over the finite elements; NaN if there are none."""
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else math.nan


def equal(got: Any, expected: Any, allowed: float) -> bool:
    """Whether two arrays are equal to within `allowed`: the same shape, NaN and infinities in the same places, and at
    least one finite element."""
    finite = np.isfinite(expected)
    if got.shape != expected.shape or not np.array_equal(finite, np.isfinite(got)) or not finite.any():
        return False
    return bool(np.abs(got[finite] - expected[finite]).max() <= allowed)
