"""Keys and values of cross-attention: computed once from the source, and read at every step.

Under the policy `none` they are computed again at every step, and the ledger counts that.
"""

from collections.abc import Callable
from typing import Any

from kvsim.arrays import Array
from kvsim.caches.base import Shape, array_bytes
from kvsim.errors import Words
from kvsim.ops import Ops
from kvsim.spans import Span, View


def same_source(ops: Ops, one: Any, other: Any) -> bool:
    """Are two sources equal: equal tuples of ids, or arrays of the same shape and numbers?"""
    if isinstance(one, tuple) or isinstance(other, tuple):
        return isinstance(one, tuple) and one == other
    if one is other or tuple(one.shape) != tuple(other.shape):
        return one is other
    xp = ops.xp
    one, other = (xp.asarray(x, dtype=ops.dtype, device=ops.device) for x in (one, other))
    return not bool(xp.any(xp.abs(one - other) > 0.0))


class CrossLayer:
    """One layer's keys and values of the source, [G, S, K] each; empty until the first `read`."""

    def __init__(self, ops: Ops, shape: Shape, keeps: bool) -> None:
        self.ops, self.shape, self.keeps = ops, shape, keeps
        g, k, v = shape
        self._empty = (
            ops.xp.empty((g, 0, k), dtype=ops.dtype, device=ops.device),
            ops.xp.empty((g, 0, v), dtype=ops.dtype, device=ops.device),
        )
        self.held: tuple[Array, Array] | None = None

    def read(self, make: Callable[[], tuple[Any, Any]]) -> View:
        """The keys and values held; the first time (under `none`: each time) those that `make()` returns."""
        keys, values = self.held or make()
        if self.keeps:
            self.held = (keys, values)
        everywhere = Span(0, keys.shape[1])
        return View(keys, values, everywhere, everywhere)

    def hold(self, keys: Array, values: Array) -> None:
        """Takes keys and values [G, S, K] computed earlier. ValueError: shapes that do not fit this model's heads."""
        g, k, v = self.shape
        s = keys.shape[1] if len(keys.shape) == 3 else -1
        if tuple(keys.shape) != (g, s, k) or tuple(values.shape) != (g, s, v):
            raise ValueError(
                Words(
                    "keys {keys} and values {values} do not fit the heads",
                    keys=tuple(keys.shape),
                    values=tuple(values.shape),
                )
            )
        self.held = (keys, values)

    def clear(self) -> None:
        self.held = None

    def fork(self) -> "CrossLayer":
        """Another layer with the same arrays, which are shared because they are never written."""
        other = CrossLayer(self.ops, self.shape, self.keeps)
        other.held = self.held
        return other

    @property
    def keys(self) -> Array:
        return (self.held or self._empty)[0]

    @property
    def values(self) -> Array:
        return (self.held or self._empty)[1]

    @property
    def logical_bytes(self) -> int:
        return array_bytes(self.ops, self.keys, self.values)

    @property
    def allocated_bytes(self) -> int:
        return self.logical_bytes
