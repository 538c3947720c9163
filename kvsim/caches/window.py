"""A layer with a sliding window keeps what its next query can see: the last window - 1 rows. Lossless.

Not a policy by itself: what `dynamic` does in a layer that has a window. A step of T tokens sees
window - 1 + T rows, which the mask sorts out by position.
"""

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, array_bytes
from kvsim.ops import Ops
from kvsim.spans import Span, View


class WindowLayer(LayerCache):
    """Rows of the positions `start`.. in one array each; older ones are let go by the next update, so
    that a forward pass which was interrupted can be run again."""

    def __init__(self, ops: Ops, shape: Shape, window: int) -> None:
        super().__init__(ops, shape, None)
        self.kept = window - 1
        self.pos = Span(0, 0)
        g, k, v = shape
        self._keys = ops.xp.empty((g, 0, k), dtype=ops.dtype, device=ops.device)
        self._values = ops.xp.empty((g, 0, v), dtype=ops.dtype, device=ops.device)

    def _old(self, stop: int) -> slice:
        """Where the rows stand that a query at position `stop` can see of those before it."""
        first = max(self.pos.start, stop - self.kept)
        return slice(first - self.pos.start, stop - self.pos.start)

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        xp, old = self.ops.xp, self._old(pos.start)
        keys, values = encode(keys, values, pos)
        self._keys = xp.concat([self._keys[:, old, :], keys], axis=1)
        self._values = xp.concat([self._values[:, old, :], values], axis=1)
        self.pos = Span(pos.stop - self._keys.shape[1], pos.stop)
        return View(self._keys, self._values, self.pos, pos)

    @property
    def keys(self) -> Array:
        return self._keys[:, self._old(self.pos.stop), :]

    @property
    def values(self) -> Array:
        return self._values[:, self._old(self.pos.stop), :]

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)
