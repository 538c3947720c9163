"""`dynamic`: keeps every row; grows with the text. Lossless.

Capacity doubles, so a run of n tokens copies at most 2n rows in total and most steps copy none.
"""

from typing import Any

from kvsim.caches.base import Shape
from kvsim.caches.buffer import BufferLayer
from kvsim.errors import Words
from kvsim.ops import Ops


class DynamicLayer(BufferLayer):
    """Starts empty; the capacity is the number of rows rounded up to a power of two."""

    example = "dynamic"
    promise = Words("every row; grows by doubling")

    def __init__(self, ops: Ops, shape: Shape, options: Any = None) -> None:
        super().__init__(ops, shape, options, capacity=0)

    def _make_room(self, needed: int) -> None:
        if needed <= self._keys.shape[1]:
            return
        keys, values = self._allocate(1 << (needed - 1).bit_length())
        keys[:, : self.rows, :] = self.keys
        values[:, : self.rows, :] = self.values
        self._keys, self._values = keys, values
