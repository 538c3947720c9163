"""`none`: keeps nothing, so the model is fed the whole text at every step. Lossless.

Its `seen` stays 0, so the loop `model(ids[cache.seen:], cache)` recomputes everything without a branch of its own.
"""

from fractions import Fraction

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, check_numbers
from kvsim.errors import Words
from kvsim.ops import Ops
from kvsim.spans import Span, View


class NoLayer(LayerCache):
    """Returns the new rows only."""

    example = "none"
    promise = Words("nothing: everything is computed again at every step")
    keeps = False
    symbolic = True
    takes_windows = True

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: None) -> Fraction:
        return Fraction(0)

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        keys, values = encode(keys, values, pos)
        return (View(keys, values, pos, pos),)

    @property
    def held_positions(self) -> tuple[Span, ...]:
        return ()

    @property
    def keys(self) -> Array:
        g, k, _ = self.shape
        return self.ops.xp.empty((g, 0, k), dtype=self.ops.dtype, device=self.ops.device)

    @property
    def values(self) -> Array:
        g, _, v = self.shape
        return self.ops.xp.empty((g, 0, v), dtype=self.ops.dtype, device=self.ops.device)

    @property
    def allocated_bytes(self) -> int:
        return 0

    def crop(self, length: int) -> None:
        """Nothing to discard."""

    def state(self) -> State:
        return State({}, {})

    def restore(self, state: State) -> None:
        """Nothing to restore."""

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        check_numbers(numbers, {})
        return {}
