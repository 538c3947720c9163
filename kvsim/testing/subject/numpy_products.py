"""Products of NumPy arrays, seen: for the time of a count, the weights in the dict are arrays that tell of every
product they meet, and so are all arrays that are made of them. An array filled by hand tells nothing of itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kvsim.testing.subject.products import CELLS, NOTHING, PROJECTED, Kinds, Operand, Tally
from kvsim.testing.subject.weights import ModelWeights

PRODUCTS = {"matmul", "dot", "inner", "vdot", "tensordot", "einsum", "vecdot", "matvec", "vecmat"}
ELSEWHERE = {"convolve", "correlate", "multi_dot", "matrix_power", "kron", "cross", "trapezoid"}


class Told(np.ndarray[Any, Any]):
    """An array that tells of its products. `kinds`: what it was made of."""

    tally: Tally | None = None
    kinds: Kinds = NOTHING

    def __array_finalize__(self, source: Any) -> None:
        self.tally, self.kinds = getattr(source, "tally", None), getattr(source, "kinds", NOTHING)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if "out" in keywords:
            keywords["out"] = tuple(plain(x) for x in keywords["out"])
        result = getattr(ufunc, method)(*[plain(x) for x in inputs], **keywords)
        return self.known(ufunc.__name__, list(inputs), result)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        result = function(*plain(args), **plain(keywords))
        return self.known(function.__name__, [*found_in(args), *found_in(keywords)], result)

    def dot(self, other: Any, out: Any = None) -> Any:
        """The method, which NumPy does not tell of."""
        return vars(np)["dot"](self, other)

    def known(self, name: str, inputs: list[Any], result: Any) -> Any:
        """The result, as what it was made of."""
        if isinstance(result, list | tuple):
            return type(result)(self.known(name, inputs, part) for part in result)
        if not isinstance(result, np.ndarray | np.floating) or result.dtype.kind != "f":
            return result
        kinds = NOTHING.union(*(x.kinds for x in inputs if isinstance(x, Told)))
        arrays = [x for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        if self.tally is not None and name in PRODUCTS:
            kinds = self.tally.product([operand(x) for x in arrays], int(result.size))
        elif self.tally is not None and name == "multiply":
            kinds = self.tally.multiply([operand(x) for x in arrays if x.size > 1], int(result.size)) or kinds
        elif self.tally is not None and name in ELSEWHERE and kinds & PROJECTED:
            self.tally.lose((CELLS,), "an operation that is not known, {name}, was given queries or keys", name=name)
        if not isinstance(result, np.ndarray):
            return result
        made = result.view(Told)
        made.tally, made.kinds = self.tally, kinds
        return made


def operand(x: Any) -> Operand:
    values = np.asarray(plain(x), np.float64)
    return Operand(values, x.dtype.name, (x.kinds or None) if isinstance(x, Told) else None)


def plain(x: Any) -> Any:
    """The same as NumPy's own."""
    if isinstance(x, Told):
        return x.view(np.ndarray)
    if isinstance(x, list | tuple):
        return type(x)(plain(part) for part in x)
    return {name: plain(part) for name, part in x.items()} if isinstance(x, dict) else x


def found_in(x: Any) -> Iterator[Any]:
    """Every array in arguments."""
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from found_in(part)
    elif isinstance(x, dict):
        yield from found_in(list(x.values()))


@contextmanager
def telling(weights: ModelWeights) -> Iterator[Tally]:
    """While this is open, the arrays in the dict tell of their products."""
    tally, before = Tally(weights), dict(weights)
    for name, array in before.items():
        told = np.asarray(array).view(Told)
        told.tally = tally
        weights[name] = told
    try:
        yield tally
    finally:
        weights.update(before)
