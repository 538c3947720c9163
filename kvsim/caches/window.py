"""A layer with a sliding window keeps what its next query can see: the last window - 1 rows. Lossless.

Not a policy by itself: what `dynamic` does in a layer that has a window. A step of T tokens sees
window - 1 + T rows, which the mask sorts out by position.
"""

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, array_bytes
from kvsim.ops import Ops
from kvsim.spans import Span, View


class WindowLayer(LayerCache):
    """Rows of the positions `pos`, from column `at` of one array for keys and one for values. New rows follow them,
    and what is left behind is let go by the next update, so that a forward pass which was interrupted can be run
    again. When the arrays are full, the rows in the window move to new ones: once in about a window of steps.
    """

    def __init__(self, ops: Ops, shape: Shape, window: int) -> None:
        super().__init__(ops, shape, None)
        self.kept = window - 1
        self.pos, self.at = Span(0, 0), 0
        self._keys, self._values = self._allocate(0)

    def _allocate(self, capacity: int) -> tuple[Array, Array]:
        ops, (g, k, v) = self.ops, self.shape
        made = [ops.xp.empty((g, capacity, d), dtype=ops.dtype, device=ops.device) for d in (k, v)]
        return made[0], made[1]

    def _old(self, stop: int) -> slice:
        """The columns of the rows that a query at position `stop` can see of those before it."""
        first = max(self.pos.start, stop - self.kept)
        return slice(self.at + first - self.pos.start, self.at + stop - self.pos.start)

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        old = self._old(pos.start)
        start, count = old.start, old.stop - old.start
        keys, values = encode(keys, values, pos)
        if start + count + pos.size > self._keys.shape[1]:
            left = self._keys[:, old, :], self._values[:, old, :]
            self._keys, self._values = self._allocate(count + pos.size + self.kept)
            start = 0
            self._keys[:, :count, :], self._values[:, :count, :] = left
        self._keys[:, start + count : start + count + pos.size, :] = keys
        self._values[:, start + count : start + count + pos.size, :] = values
        self.pos, self.at = Span(pos.start - count, pos.stop), start
        rows = slice(start, start + count + pos.size)
        return View(self._keys[:, rows, :], self._values[:, rows, :], self.pos, pos)

    @property
    def keys(self) -> Array:
        return self._keys[:, self._old(self.pos.stop), :]

    @property
    def values(self) -> Array:
        return self._values[:, self._old(self.pos.stop), :]

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)
