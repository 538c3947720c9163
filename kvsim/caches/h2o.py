"""`h2o:B`: of every head the newest half of B rows, and the heavy hitters: those with the most attention so far
(H2O, arXiv:2306.14048).

The score of a row is the sum of the probabilities that it was given: by all queries since it came, in all query heads
that read it. When more than B rows are held after a step, the newest ceil(B/2) stay, and of the others those with the
largest scores; of equals the older.
"""

from typing import Any

from kvsim.arrays import Array
from kvsim.caches.base import Encode, Shape, State
from kvsim.caches.evicting import EvictingLayer, attention_received, best_columns, followed_by, gather, zeros
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span, View


class HeavyHittersLayer(EvictingLayer):
    """Scores [G, S] of the rows, in the type that statistics are computed in: float32 for 16-bit models, else the
    model's own. What a step adds counts when every layer is through."""

    example = "h2o:256"
    promise = Words("B rows of each head: the newest half, and those with the most attention so far")
    paper = "arXiv:2306.14048"
    smallest = 2

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self._scores = self._next = zeros(ops, shape.n_heads, 0)

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        view = super().update(keys, values, pos, encode)
        new = zeros(self.ops, self.shape.n_heads, pos.size)
        self._next = self.ops.xp.concat([self._scores, new], axis=1)
        return view._replace(observer=self._observe)

    def _observe(self, queries: Array, probs: Array) -> None:
        """Add what some of the step's queries gave: to the first rows, where they were not shown the last."""
        received = attention_received(self.ops, probs, self.shape.n_heads)
        shown = slice(0, received.shape[1])
        self._next[:, shown] = self._next[:, shown] + received

    def _choose(self, pos: Span) -> Array | None:
        self._scores = self._next
        if self.rows <= self.budget:
            return None
        newest = (self.budget + 1) // 2
        others = self.rows - newest
        heavy = best_columns(self.ops, self._scores[:, :others], self.budget - newest)
        return followed_by(self.ops, heavy, others, self.rows)

    def _keep(self, columns: Array) -> None:
        super()._keep(columns)
        self._scores = gather(self.ops, self._scores, columns)

    @property
    def metadata_bytes(self) -> int:
        score_bytes = int(self.ops.xp.finfo(self.ops.wide_dtype).bits) // 8
        return super().metadata_bytes + int(self._scores.shape[1]) * self.shape.n_heads * score_bytes

    def check_crop(self, length: int) -> None:
        raise UsageError(
            "the cache {spec} cannot go back to {length} tokens: what later tokens added to the scores cannot be"
            " taken back",
            spec=self.spec,
            length=length,
        )

    def state(self) -> State:
        numbers, arrays = super().state()
        return State(numbers, arrays | {"scores": self._scores})

    def restore(self, state: State) -> None:
        super().restore(state)
        self._scores = self._next = self.ops.xp.astype(state.arrays["scores"], self.ops.wide_dtype)
