"""Rows in one array for keys and one for values, [G, capacity, K]; subclasses decide when the arrays grow."""

from abc import abstractmethod
from typing import Any

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, array_bytes, check_numbers
from kvsim.ops import Ops
from kvsim.spans import Span, View


class BufferLayer(LayerCache):
    """Rows 0 .. `rows` - 1 of two arrays. The head axis comes first, so that the rows of a head are contiguous."""

    symbolic = True

    def __init__(self, ops: Ops, shape: Shape, options: Any, capacity: int = 0) -> None:
        super().__init__(ops, shape, options)
        self.rows = 0
        self._keys, self._values = self._allocate(capacity)

    @abstractmethod
    def _make_room(self, needed: int) -> None:
        """Makes sure that the arrays have room for `needed` rows, keeping the first `self.rows`."""

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        self.rows = pos.start
        self._make_room(pos.stop)
        keys, values = encode(keys, values, pos)
        self._keys[:, pos.start : pos.stop, :] = keys
        self._values[:, pos.start : pos.stop, :] = values
        self.rows = pos.stop
        return (View(self.keys, self.values, Span(0, pos.stop), pos),)

    @property
    def held_positions(self) -> tuple[Span, ...]:
        return (Span(0, self.rows),)

    @property
    def keys(self) -> Array:
        return self._keys[:, : self.rows, :]

    @property
    def values(self) -> Array:
        return self._values[:, : self.rows, :]

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)

    def crop(self, length: int) -> None:
        self.rows = length

    def state(self) -> State:
        return State({"rows": self.rows}, {"keys": self.keys, "values": self.values})

    def restore(self, state: State) -> None:
        self.rows = 0
        self._make_room(state.numbers["rows"])
        self.rows = state.numbers["rows"]
        self._keys[:, : self.rows, :] = state.arrays["keys"]
        self._values[:, : self.rows, :] = state.arrays["values"]

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        check_numbers(numbers, {"rows": seen})
        return self._shapes(seen)
