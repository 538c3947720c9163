"""`static:N`: capacity for N tokens, allocated once. Lossless.

No array ever changes its size, as compiled engines require. Unfilled rows are never returned.
"""

from typing import Any

from kvsim.caches.base import Shape, read_whole
from kvsim.caches.buffer import BufferLayer
from kvsim.errors import Words
from kvsim.ops import Ops


class StaticLayer(BufferLayer):
    """N rows, allocated once, in every layer, including layers with a window."""

    example = "static:4096"
    promise = Words("every row; room for N tokens from the start, and never more")
    takes_windows = True

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options, capacity=options)

    @classmethod
    def read_options(cls, name: str, text: str) -> int:
        return read_whole(text, name, cls.example)

    @classmethod
    def capacity(cls, options: int) -> int:
        return options

    def _make_room(self, needed: int) -> None:
        """Nothing to do: `Cache.admit` refuses tokens beyond the capacity."""
