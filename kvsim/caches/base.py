"""What every cache is: a list of layers, and how many tokens the model has committed to it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kvsim.arrays import Array
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span, View

if TYPE_CHECKING:
    from kvsim.caches.cross import CrossLayer

Encode = Callable[[Any, Any, Span], tuple[Any, Any]]


class Shape(NamedTuple):
    """One row of one layer: G heads, a key of `d_key` and a value of `d_value` elements each."""

    n_heads: int
    d_key: int
    d_value: int

    def row_bytes(self, ops: Ops) -> int:
        """Bytes of one token in one layer."""
        return self.n_heads * (self.d_key + self.d_value) * ops.item_bytes


def array_bytes(ops: Ops, *arrays: Array) -> int:
    """Bytes that arrays of the model's dtype hold (the array API has no `nbytes`)."""
    count: int = sum(math.prod(array.shape) for array in arrays)
    return count * ops.item_bytes


class LayerCache(ABC):
    """One layer's rows. `update` writes at `pos` and drops whatever stood there or after, so that a
    forward pass which was interrupted leaves nothing behind: its rows are overwritten by the next.
    """

    sized: ClassVar[bool] = False  # does the policy's name take a size?
    keeps: ClassVar[bool] = True  # False: every step starts from nothing

    def __init__(self, ops: Ops, shape: Shape, size: int | None) -> None:
        self.ops, self.shape = ops, shape

    @abstractmethod
    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        """Take the new rows [G, T, K] at `pos`; answer with all that their queries may look at."""

    @property
    @abstractmethod
    def keys(self) -> Array:
        """The keys held, encoded: [G, S, K]."""

    @property
    @abstractmethod
    def values(self) -> Array:
        """The values held: [G, S, K]."""

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows held."""
        return array_bytes(self.ops, self.keys, self.values)

    @property
    @abstractmethod
    def allocated_bytes(self) -> int:
        """Bytes of the arrays that hold them, room to grow included."""


class BufferLayer(LayerCache):
    """Rows in one array for keys and one for values, [G, capacity, K]; the policy says when they grow.

    Heads come first, so that each head's rows are contiguous and a step writes only its own.
    """

    def __init__(self, ops: Ops, shape: Shape, capacity: int) -> None:
        super().__init__(ops, shape, None)
        self.rows = 0
        self._keys, self._values = self._allocate(capacity)

    def _allocate(self, capacity: int) -> tuple[Array, Array]:
        ops, (g, k, v) = self.ops, self.shape
        made = [ops.xp.empty((g, capacity, d), dtype=ops.dtype, device=ops.device) for d in (k, v)]
        return made[0], made[1]

    @abstractmethod
    def _make_room(self, needed: int) -> None:
        """See that the arrays hold `needed` rows; the first `self.rows` must survive."""

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        self.rows = pos.start
        self._make_room(pos.stop)
        keys, values = encode(keys, values, pos)
        self._keys[:, pos.start : pos.stop, :] = keys
        self._values[:, pos.start : pos.stop, :] = values
        self.rows = pos.stop
        return View(self.keys, self.values, Span(0, pos.stop), pos)

    @property
    def keys(self) -> Array:
        return self._keys[:, : self.rows, :]

    @property
    def values(self) -> Array:
        return self._values[:, : self.rows, :]

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)


class Cache:
    """The cache of one sequence. `seen` counts the tokens that the model has fed to it."""

    def __init__(
        self, spec: str, ops: Ops, layers: list[LayerCache], cross: "list[CrossLayer]", capacity: int | None
    ) -> None:
        self.spec = spec
        self.ops = ops  # the model's own: how a model knows its caches
        self.layers = layers
        self.cross = cross  # one for each layer of an encoder-decoder, else none
        self.source: object = None  # what the cross layers were made of
        self.capacity = capacity  # tokens it can hold; None: as many as the model's context
        self.keeps = all(layer.keeps for layer in layers)
        self.seen = 0

    def admit(self, count: int) -> Span:
        """The positions of the next `count` tokens; UsageError if they do not fit. Changes nothing."""
        stop = self.seen + count
        if self.capacity is not None and stop > self.capacity:
            raise UsageError(
                'the {spec} cache holds {held} tokens, asked for {asked}: use "static:{enough}" or "dynamic"',
                spec=self.spec.partition(":")[0],
                held=self.capacity,
                asked=stop,
                enough=-(-stop // 64) * 64,
            )
        return Span(self.seen, stop)

    def commit(self, pos: Span) -> None:
        """The model has fed the tokens at `pos` through every layer."""
        if self.keeps:
            self.seen = pos.stop

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows held, all layers."""
        held = sum(layer.logical_bytes for layer in self.layers)
        return held + sum(layer.logical_bytes for layer in self.cross)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the arrays that hold them, all layers, room to grow included."""
        held = sum(layer.allocated_bytes for layer in self.layers)
        return held + sum(layer.allocated_bytes for layer in self.cross)
