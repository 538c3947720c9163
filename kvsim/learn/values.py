"""Arguments and results of the learner's code as JSON and arrays, between its process and this one.

Lists, tuples, dicts, numbers and text stay what they are; arrays travel as bytes beside the JSON, at most three of
them. Objects of the learner's own classes stay where they are, under numbers.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kvsim.testing.subject.calls import Problem, UnreadableError, describe_error
from kvsim.testing.subject.weights import make_weights
from kvsim.testing.subject.wire import HEAD, PROBLEMS, Returned

MOST_ARRAYS = 3  # of one message
MOST_DIGITS = 100  # of a whole number
WHOLE = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))  # dtypes without fractions
Made = Callable[[Any], Any]  # what becomes of an object that is none of these: its number, or None

# Messages that the learner's process may send beside those of `kvsim verify`.
PROBLEMS |= {
    problem.template
    for problem in (
        Problem("{name} gave {got}, expected numbers, lists or arrays of them", {}),
        Problem("{name} gave more than {most} arrays", {}),
        Problem("{name} gave more numbers than are read", {}),
        Problem("{name} changed its argument {number}", {}),
    )
}


def _no_object(x: Any) -> int | None:
    return None


def flatten(x: Any, arrays: list[Any], name: str = "", made: Made = _no_object) -> Any:
    """`x` as JSON; its arrays are added to `arrays`. UnreadableError, naming the function `name`: it is no data."""
    x = x.item() if isinstance(x, np.generic) else x
    if _is_plain(x):
        return x
    if isinstance(x, list | tuple | range | set | frozenset):
        return _flatten_list(x, arrays, name, made)
    if isinstance(x, Mapping):
        return {"dict": [[str(k), flatten(v, arrays, name, made)] for k, v in x.items()]}
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return _flatten_array(x, arrays, name)
    if (number := made(x)) is not None:
        return {"object": number}
    raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=name,
                          got=type(x).__name__)  # fmt: skip


def _is_plain(x: Any) -> bool:
    """Whether JSON has it; of a subclass, only the exact type is known to be harmless."""
    if type(x) is int:
        return bool(abs(x) < 10**MOST_DIGITS)
    return x is None or type(x) in (bool, str, float)


def _flatten_list(x: Any, arrays: list[Any], name: str, made: Made) -> Any:
    """A list of arrays of one shape, as rows are often kept, is one array; other lists, and tuples, stay lists."""
    if isinstance(x, list) and _holds_arrays(x) and not _is_small_record(x):
        try:
            return _flatten_array(np.asarray([np.asarray(one) for one in x]), arrays, name)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UnreadableError("the result {type} cannot be read as an array: {error}", type="list",
                                  error=describe_error(error)) from error  # fmt: skip
    items = sorted(x) if isinstance(x, set | frozenset) else x
    return {"list": [flatten(one, arrays, name, made) for one in items]}


def _holds_arrays(x: Any) -> bool:
    return isinstance(x, list) and any(_holds_arrays(one) or getattr(one, "ndim", 0) for one in x)


def _is_small_record(x: list[Any]) -> bool:
    """Whether it is a few arrays of different shapes, as `return [keys, values, positions]` gives."""
    return len(x) <= MOST_ARRAYS and len({getattr(one, "shape", None) for one in x}) > 1


def _flatten_array(x: Any, arrays: list[Any], name: str) -> Any:
    name_of_dtype = str(x.dtype).rpartition(".")[2]
    kind = name_of_dtype if name_of_dtype in WHOLE else ""
    if len(arrays) == MOST_ARRAYS:
        raise UnreadableError("{name} gave more than {most} arrays", name=name, most=MOST_ARRAYS)
    arrays.append(np.asarray(x).astype(np.float64) if kind else x)
    return {"array": len(arrays) - 1, "kind": kind}


def check_size(tree: Any, name: str) -> None:
    """UnreadableError: the JSON is longer than one message."""
    if len(json.JSONEncoder().encode(tree)) > HEAD - 1000:
        raise UnreadableError("{name} gave more numbers than are read", name=name)


def restore(tree: Any, arrays: list[Any], dtype: str | None, known: Callable[[str, Any], Any]) -> Any:
    """What `flatten` was given. Arrays of floats are made `dtype`; None: as they came. `known(kind, value)`: an object,
    a function or weights. ValueError: nothing that `flatten` makes."""
    if not isinstance(tree, dict):
        return tree
    (kind, value), *more = tree.items()
    if kind == "list":
        return [restore(one, arrays, dtype, known) for one in value]
    if kind == "dict":
        return {name: restore(one, arrays, dtype, known) for name, one in value}
    if kind == "array":
        return _restore_array(arrays[value], dict(more).get("kind", ""), dtype)
    return known(kind, value)


def _restore_array(x: Any, kind: str, dtype: str | None) -> Any:
    if kind in WHOLE:
        with np.errstate(invalid="ignore"):
            return np.asarray(x).astype(kind)
    if isinstance(x, Returned):
        return x.values.astype(x.dtype) if hasattr(np, x.dtype) else x
    return x if dtype is None else x.astype(dtype)


def make_known_weights(sizes: dict[str, Any], dtype: str) -> Any:
    """The weights of a request {"weights": sizes}, made in the process that uses them."""
    return make_weights(dtype=dtype, **sizes)
