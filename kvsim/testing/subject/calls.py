"""Somebody else's code, called: what it gives as NumPy arrays, and what is wrong before any number is compared."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.subject.limits import TooLongError
from kvsim.testing.verdict.diagnosing import Chunks


class Problem(NamedTuple):
    """Why there is nothing to compare: a template of `kvsim.testing.verdict.sentences` and its values. `last`: nothing
    more is to be called."""

    template: str
    values: dict[str, Any]
    last: bool = False


class Given(NamedTuple):
    """What a run gave: logits [T, V] in float64 and the dtype they came in, or a problem."""

    logits: Any
    dtype: str
    problem: Problem | None = None


class UnreadableError(Exception):
    """A result that is no array of numbers."""

    last = False

    def __init__(self, template: str, **values: Any) -> None:
        super().__init__(template)
        self.problem = Problem(template, values, self.last)


class ShapeError(UnreadableError):
    """An array of another shape: what has the right one by chance in another feed says nothing."""

    last = True


class EndlessError(UnreadableError):
    """No result in time: whoever is called again may take as long again."""

    last = True


def to_host(x: Any) -> tuple[Any, str]:
    """An array of any library as a NumPy array in float64, copied once, and the name of its dtype. UnreadableError."""
    if hasattr(x, "detach"):
        x = x.detach()
    name = str(getattr(x, "dtype", "float64")).rpartition(".")[2]
    if hasattr(x, "float") and name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):  # torch's: not in DLPack for NumPy
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
            "the result {type} cannot be read as an array: {error}", type=type(x).__name__, error=told(error)
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
    """Where an array is: "cpu" where it does not say."""
    device = getattr(x, "device", "cpu")
    return str(getattr(device, "type", device))


def told(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def call(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What it returns. UnreadableError: it takes other arguments, raises, exits, or does not return in time."""
    __tracebackhide__ = True
    name = getattr(function, "__name__", type(function).__name__)
    try:
        return function(*args, **keywords)
    except UnreadableError:
        raise
    except TooLongError as error:
        raise EndlessError(
            "{name} did not return within {seconds} s", name=name, seconds=f"{error.seconds:g}"
        ) from None
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError) and not takes(function, args, keywords):
            raise UnreadableError(
                "{name} does not take what it is called with, {count} arguments{words}: {error}", name=name,
                count=len(args), words="".join(f", {word}=" for word in keywords), error=told(error),
            ) from error  # fmt: skip
        raise UnreadableError("{name} raised {error}", name=name, error=told(error), raised=type(error)) from error


def takes(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Can it be called so? Yes, where it does not say."""
    try:
        inspect.signature(function).bind(*args, **keywords)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def run_text(make: Callable[[], Any], step: Callable[[Any, list[int]], Any], text: Chunks, vocab: int) -> Given:
    """Feed a text in chunks to a fresh state."""
    parts, dtypes, number = [], [], 0
    try:
        state = call(make)
        for chunk in text:
            number += 1
            fed = list(chunk)
            logits, dtype = to_host(call(step, state, fed))
            dtypes.append(dtype)
            if fed != chunk:
                raise UnreadableError("step changed the list of ids that it was given: it gave {ids} back", ids=fed)
            if logits.shape != (len(chunk), vocab):
                raise ShapeError("step gave an array of shape {got}, expected [T, V] = {expected}",
                                 got=list(logits.shape), expected=[len(chunk), vocab])  # fmt: skip
            if dtype != dtypes[0]:
                raise UnreadableError("step gave {got} after it gave {before}, expected one dtype", got=dtype,
                                      before=dtypes[0])  # fmt: skip
            parts.append(logits)
    except UnreadableError as error:
        return Given(None, "float64", placed(error.problem, text, number))
    return Given(np.concatenate(parts), dtypes[0])


def placed(problem: Problem, text: Chunks, step: int) -> Problem:
    """With the feed and the step in which it came up."""
    return problem._replace(values=problem.values | {"feed": [len(c) for c in text], "step": step})


def first_blank(logits: Any) -> tuple[int, ...] | None:
    """Where the first number that is not finite stands."""
    blank = np.argwhere(~np.isfinite(logits))
    return None if not len(blank) else tuple(int(i) for i in blank[0])


def largest(x: Any) -> float:
    """max |x| of what is finite."""
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else math.nan
