"""Products of NumPy arrays, counted: during a count, the weights in the dict are a subclass of ndarray that reports
every product that it takes part in, and so are all arrays computed from them. An array filled by hand is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kvsim.testing.subject.products import CELLS, NO_KINDS, PROJECTED, Kinds, Operand, Tally
from kvsim.testing.subject.weights import ModelWeights

PRODUCTS = {"matmul", "dot", "inner", "vdot", "tensordot", "einsum", "vecdot", "matvec", "vecmat"}
UNSUPPORTED = {"convolve", "correlate", "multi_dot", "matrix_power", "kron", "cross", "trapezoid"}


class CountedArray(np.ndarray[Any, Any]):
    """An array whose products are counted in `tally`. `kinds`: what it was computed from."""

    tally: Tally | None = None
    kinds: Kinds = NO_KINDS

    def __array_finalize__(self, source: Any) -> None:
        self.tally, self.kinds = getattr(source, "tally", None), getattr(source, "kinds", NO_KINDS)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if "out" in keywords:
            keywords["out"] = tuple(to_ndarray(x) for x in keywords["out"])
        result = getattr(ufunc, method)(*[to_ndarray(x) for x in inputs], **keywords)
        return self.count(ufunc.__name__, list(inputs), result)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        result = function(*to_ndarray(args), **to_ndarray(keywords))
        return self.count(function.__name__, [*find_arrays(args), *find_arrays(keywords)], result)

    def dot(self, other: Any, out: Any = None) -> Any:
        """The method, for which NumPy calls neither protocol."""
        return vars(np)["dot"](self, other)

    def count(self, name: str, inputs: list[Any], result: Any) -> Any:
        """Count the operation `name`. Returns its result as a CountedArray with what it was computed from."""
        if isinstance(result, list | tuple):
            return type(result)(self.count(name, inputs, part) for part in result)
        if not isinstance(result, np.ndarray | np.floating) or result.dtype.kind != "f":
            return result
        kinds = NO_KINDS.union(*(x.kinds for x in inputs if isinstance(x, CountedArray)))
        arrays = [x for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        if self.tally is not None and name in PRODUCTS:
            kinds = self.tally.add_product([operand(x) for x in arrays], int(result.size))
        elif self.tally is not None and name == "multiply":
            factors = [operand(x) for x in arrays if x.size > 1]
            kinds = self.tally.add_elementwise(factors, int(result.size)) or kinds
        elif self.tally is not None and name in UNSUPPORTED and kinds & PROJECTED:
            self.tally.mark_unknown(
                (CELLS,), "the unsupported operation {name} was applied to queries or keys", name=name
            )
        if not isinstance(result, np.ndarray):
            return result
        counted = result.view(CountedArray)
        counted.tally, counted.kinds = self.tally, kinds
        return counted


def operand(x: Any) -> Operand:
    """An array as an operand. One without kinds, or not counted, may have been filled by hand: unknown."""
    values = np.asarray(to_ndarray(x), np.float64)
    return Operand(values, x.dtype.name, (x.kinds or None) if isinstance(x, CountedArray) else None)


def to_ndarray(x: Any) -> Any:
    """x, and every array inside of lists, tuples and dicts, as a plain ndarray."""
    if isinstance(x, CountedArray):
        return x.view(np.ndarray)
    if isinstance(x, list | tuple):
        return type(x)(to_ndarray(part) for part in x)
    return {name: to_ndarray(part) for name, part in x.items()} if isinstance(x, dict) else x


def find_arrays(x: Any) -> Iterator[Any]:
    """Every array in x, also inside of lists, tuples and dicts."""
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from find_arrays(part)
    elif isinstance(x, dict):
        yield from find_arrays(list(x.values()))


@contextmanager
def count_numpy_products(weights: ModelWeights) -> Iterator[Tally]:
    """Count the products of the arrays in `weights`, and of all arrays computed from them, while the block runs."""
    tally, before = Tally(weights), dict(weights)
    for name, array in before.items():
        counted = np.asarray(array).view(CountedArray)
        counted.tally = tally
        weights[name] = counted
    try:
        yield tally
    finally:
        weights.update(before)
