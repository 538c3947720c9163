"""The functions that kvsim needs of an array library: the contract for a new backend.

A namespace is narrowed to these names before the model sees it, so that any other call fails at once on every library,
not only on the one that lacks the function. Arrays need the attributes and operators below; `meta` has only those.
Semantics are those of the Python array API standard
(https://data-apis.org/array-api/2024.12).
"""

from types import SimpleNamespace
from typing import Any

FUNCTIONS = frozenset({
    "abs", "any", "arange", "argmax", "argsort", "asarray", "astype", "bitwise_and", "bitwise_right_shift",
    "broadcast_to", "concat", "cos", "empty", "exp", "finfo", "isnan", "logical_and", "matmul", "matrix_transpose",
    "max", "maximum", "mean", "min", "permute_dims", "reshape", "round", "sin", "sort", "sqrt", "stack", "sum",
    "take", "tanh", "where", "zeros_like",
})  # fmt: skip
DTYPES = frozenset({"float32", "float64", "int64", "int8", "uint8"})
# Optional: float8_e4m3fn, for storage only; erf.
OPTIONAL = frozenset({"float16", "bfloat16", "float8_e4m3fn", "erf"})
ATTRIBUTES = frozenset({"dtype", "ndim", "shape"})
OPERATORS = frozenset({
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__neg__",
    "__eq__", "__lt__", "__le__", "__gt__", "__getitem__", "__setitem__", "__int__", "__float__", "__bool__",
})  # fmt: skip


def narrow(library: Any, **own: Any) -> SimpleNamespace:
    """The namespace `library` restricted to the contract; functions given as `own` replace the library's.

    AttributeError: the library lacks one.
    """
    names = {name: own.get(name) or getattr(library, name) for name in FUNCTIONS | DTYPES}
    names |= {name: getattr(library, name) for name in OPTIONAL if hasattr(library, name)}
    return SimpleNamespace(**names)
