"""`h2o:B`: of every head the newest half of B rows, and the heavy hitters: those with the most attention so far
(H2O, arXiv:2306.14048).

The score of a row is the sum of the probabilities that it was given: by all queries since it came, in all query heads
that read it. When more than B rows are held after a step, the newest ceil(B/2) stay, and of the others those with the
largest scores; of equals the older.
"""

from kvsim.arrays import Array
from kvsim.caches.base import Encode
from kvsim.caches.evicting.base import ScoredLayer, attention_received, best_columns, followed_by, zeros
from kvsim.errors import UsageError, Words
from kvsim.spans import Span, View


class HeavyHittersLayer(ScoredLayer):
    """A row's score is the attention that it has received."""

    example = "h2o:256"
    promise = Words("B rows of each head: the newest half, and those with the most attention so far")
    paper = "arXiv:2306.14048"
    smallest = 2

    def _begin(self, keys: Array) -> Array:
        return zeros(self.ops, keys.shape[0], keys.shape[1])

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        (view,) = super().update(keys, values, pos, encode)
        return (view._replace(observer=self._observe),)

    def _observe(self, queries: Array, probs: Array) -> None:
        """Add what some of the step's queries gave: to the first rows, where they were not shown the last."""
        received = attention_received(self.ops, probs, self.shape.n_heads)
        shown = slice(0, received.shape[1])
        self._next[:, shown] = self._next[:, shown] + received

    def _choose(self, pos: Span) -> Array | None:
        if self.rows <= self.budget:
            return None
        newest = (self.budget + 1) // 2
        others = self.rows - newest
        heavy = best_columns(self.ops, self._scores[:, :others], self.budget - newest)
        return followed_by(self.ops, heavy, others, self.rows)

    def check_crop(self, length: int) -> None:
        raise UsageError(
            "the cache {spec} cannot go back to {length} tokens: what later tokens added to the scores cannot be"
            " taken back",
            spec=self.spec,
            length=length,
        )
