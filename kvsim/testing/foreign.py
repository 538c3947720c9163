"""Somebody else's code, called: what it gives as NumPy arrays, and what is wrong before any number is compared."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.diagnosing import Chunks
from kvsim.testing.rounding import FORMATS


class Problem(NamedTuple):
    """Why there is nothing to compare: a template of `kvsim.testing.sentences` and its values."""

    template: str
    values: dict[str, Any]


class Given(NamedTuple):
    """What a run gave: logits [T, V] in float64 and the dtype they came in, or a problem."""

    logits: Any
    dtype: str
    problem: Problem | None = None


class UnreadableError(Exception):
    """A result that is no array of numbers."""

    def __init__(self, template: str, **values: Any) -> None:
        super().__init__(template)
        self.problem = Problem(template, values)


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
        raise UnreadableError(
            "the result {type} cannot be read as an array: {error}", type=type(x).__name__, error=told(error)
        ) from error
    if array.dtype.kind == "O":
        raise UnreadableError("the result {type} cannot be read as an array: {error}", type=type(x).__name__, error="-")
    if array.dtype.kind not in "fiu" and array.dtype.name not in FORMATS:
        raise UnreadableError("the result is an array of {dtype}, expected real numbers", dtype=array.dtype)
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


def told(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def call(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What it returns. UnreadableError: it raises, or exits."""
    __tracebackhide__ = True
    try:
        return function(*args, **keywords)
    except (Exception, SystemExit) as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise UnreadableError("{name} raised {error}", name=name, error=told(error)) from error


def run_text(make: Callable[[], Any], step: Callable[[Any, list[int]], Any], text: Chunks, vocab: int) -> Given:
    """Feed a text in chunks to a fresh state."""
    parts, dtype, number = [], "float64", 0
    try:
        state = call(make)
        for chunk in text:
            number += 1
            fed = list(chunk)
            logits, dtype = to_host(call(step, state, fed))
            if fed != chunk:
                raise UnreadableError("step changed the list of ids that it was given: it gave {ids} back", ids=fed)
            if logits.shape != (len(chunk), vocab):
                raise UnreadableError("step gave an array of shape {got}, expected [T, V] = {expected}",
                                 got=list(logits.shape), expected=[len(chunk), vocab])  # fmt: skip
            parts.append(logits)
    except UnreadableError as error:
        values = error.problem.values | {"feed": [len(c) for c in text], "step": number}
        return Given(None, dtype, Problem(error.problem.template, values))
    return Given(np.concatenate(parts), dtype)


def first_blank(logits: Any) -> tuple[int, ...] | None:
    """Where the first number that is not finite stands."""
    blank = np.argwhere(~np.isfinite(logits))
    return None if not len(blank) else tuple(int(i) for i in blank[0])


def largest(x: Any) -> float:
    """max |x| of what is finite."""
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else math.nan
