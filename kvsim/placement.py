"""A model's record of arrays, walked: moved to the device, held against a config's shapes, listed."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from kvsim.arrays import Array
from kvsim.errors import UsageError
from kvsim.ops import Ops


def move(ops: Ops, weights: Any, moved: dict[int, Array]) -> Any:
    """The same record with every host array on the device, once, in the model's dtype. An array that
    stands in two places (a tied head) stays one array."""
    if is_dataclass(weights) and not isinstance(weights, type):
        return replace(weights, **{f.name: move(ops, getattr(weights, f.name), moved) for f in fields(weights)})
    if isinstance(weights, tuple):
        return tuple(move(ops, part, moved) for part in weights)
    if weights is None:
        return None
    if id(weights) not in moved:
        moved[id(weights)] = ops.xp.asarray(weights, dtype=ops.dtype, device=ops.device)
    return moved[id(weights)]


def arrays_of(weights: Any) -> Iterator[Array]:
    """Every array of a record, in order."""
    if is_dataclass(weights) and not isinstance(weights, type):
        for f in fields(weights):
            yield from arrays_of(getattr(weights, f.name))
    elif isinstance(weights, tuple):
        for part in weights:
            yield from arrays_of(part)
    elif weights is not None:
        yield weights


def check_shapes(expected: Any, weights: Any) -> None:
    """Hold arrays against the (name, shape) pairs that stand in their places. UsageError: a difference."""
    if is_dataclass(expected) and not isinstance(expected, type):
        for f in fields(expected):
            check_shapes(getattr(expected, f.name), getattr(weights, f.name, None))
    elif isinstance(expected, tuple) and not (len(expected) == 2 and isinstance(expected[0], str)):
        parts = weights if isinstance(weights, tuple) else ()
        for i, part in enumerate(expected):
            check_shapes(part, parts[i] if i < len(parts) else None)
    elif expected is not None:
        name, shape = expected
        found = getattr(weights, "shape", None)
        if found is None or tuple(found) != shape:
            raise UsageError(
                "the array {name} has shape {found}, the config asks for {shape}", name=name, found=found, shape=shape
            )
