"""`static:N`: room for N tokens from the start, and never more. Lossless.

What compiled engines use: no array ever changes its size. Rows not filled are never returned.
"""

from kvsim.caches.base import BufferLayer, Shape
from kvsim.ops import Ops


class StaticLayer(BufferLayer):
    """N rows, allocated once."""

    sized = True

    def __init__(self, ops: Ops, shape: Shape, size: int | None) -> None:
        if size is None:
            raise ValueError("static needs a size")
        super().__init__(ops, shape, capacity=size)

    def _make_room(self, needed: int) -> None:
        """Nothing to do: `Cache.admit` has refused what does not fit."""
