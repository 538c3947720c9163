"""`h2o:B`: each head keeps B rows, half of them the newest, half the heavy hitters, which have received the most
attention so far (H2O, arXiv:2306.14048).

A row's score is the sum of its attention probabilities over all queries since it was written, in all query heads that
read it. If more than B rows are held after a step, the newest ceil(B/2) are kept and, of the others, those with the
largest scores; ties (`kvsim.caches.evicting.ranking`) go to the older row.
"""

from kvsim.arrays import Array
from kvsim.caches.base import Encode
from kvsim.caches.evicting.base import ScoredLayer, attention_received, followed_by, zeros
from kvsim.caches.evicting.ranking import best_columns
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
        """Adds the attention of some of the step's queries, which may have seen only the first rows."""
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
            "the cache {spec} cannot be cropped to {length} tokens: what later tokens added to its scores cannot be"
            " subtracted",
            spec=self.spec,
            length=length,
        )
