"""`static:N`: capacity for N tokens, allocated once. Lossless.

No array ever changes its size, as compiled engines require. Unfilled rows are never returned.
"""

from typing import Any

from kvsim.caches.base import Shape, Waste, read_whole
from kvsim.caches.buffer import BufferLayer
from kvsim.errors import Words
from kvsim.ops import Ops


class StaticLayer(BufferLayer):
    """N rows, allocated once, in every layer, including layers with a window: these keep the rows before the window, so
    that the cache can be cropped to any length, but do not count them as in use."""

    example = "static:4096"
    promise = Words("every row; room for N tokens from the start, and never more")
    takes_windows = True

    def __init__(self, ops: Ops, shape: Shape, options: Any, window: int | None = None) -> None:
        super().__init__(ops, shape, options, capacity=options)
        self.window = window  # that of the model's attention in this layer

    @classmethod
    def new_layer(cls, ops: Ops, shape: Shape, options: int, window: int | None) -> "StaticLayer":
        return cls(ops, shape, options, window)

    @classmethod
    def read_options(cls, name: str, text: str) -> int:
        return read_whole(text, name, cls.example)

    @classmethod
    def capacity(cls, options: int) -> int:
        return options

    def _make_room(self, needed: int) -> None:
        """Nothing to do: `Cache.admit` refuses tokens beyond the capacity."""

    @property
    def _before_window(self) -> Any:
        """Number of rows that no later query can see."""
        return 0 if self.window is None else max(self.rows + 1 - self.window, 0)

    @property
    def logical_bytes(self) -> int:
        used: int = (self.rows - self._before_window) * self.shape.row_bytes(self.ops)
        return used

    @property
    def waste(self) -> Waste:
        """Reserved: rows for tokens to come. External: rows that have left the window."""
        row = self.shape.row_bytes(self.ops)
        return Waste(reserved=(self.options - self.rows) * row, external=self._before_window * row)

    def fresh(self) -> "StaticLayer":
        return type(self)(self.ops, self.shape, self.options, self.window)
