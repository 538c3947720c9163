"""`snapkv:B`: after a prompt, of every head the rows that the end of the prompt looks at (SnapKV, arXiv:2404.14469).

After a step of more than one token that leaves more than B rows, the last w = min(32, T, B) stay: the observation
window, which is never longer than the step, since only its own queries are there to be asked. Of the others stay the
B - w with the most votes: the probabilities that the w queries give them, summed over these and over all query heads
that read the head, and of each row the largest among itself and its three neighbours on either side (those that are
held, before the window). Of equals the older. A step of one token lets go of nothing: the text it makes is kept.
"""

from kvsim.arrays import Array
from kvsim.caches.base import Encode
from kvsim.caches.evicting.base import EvictingLayer, attention_received, best_columns, followed_by, zeros
from kvsim.errors import Words
from kvsim.ops import Ops
from kvsim.spans import Span, View

WINDOW = 32  # queries that are asked
KERNEL = 7  # rows that are pooled


def max_pooled(ops: Ops, votes: Array) -> Array:
    """The largest of KERNEL neighbours around each of [G, N], at the edges of fewer. Votes are not negative."""
    xp, (g, n) = ops.xp, votes.shape
    edge = zeros(ops, g, KERNEL // 2)
    padded, pooled = xp.concat([edge, votes, edge], axis=1), votes
    for shift in range(KERNEL):
        pooled = xp.maximum(pooled, padded[:, shift : shift + n])
    return pooled


class SnapLayer(EvictingLayer):
    """The votes [G, S] of a step are there until it is through."""

    example = "snapkv:256"
    promise = Words("B rows of each head after a prompt: its last 32, and those that these look at")
    paper = "arXiv:2404.14469"

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        (view,) = super().update(keys, values, pos, encode)
        if pos.size == 1:
            return (view,)
        self._votes = zeros(self.ops, self.shape.n_heads, self.rows)
        self._unasked = pos.size - self._window(pos)  # queries to come before the window
        return (view._replace(observer=self._observe),)

    def _window(self, pos: Span) -> int:
        return min(WINDOW, pos.size, self.budget)

    def _observe(self, queries: Array, probs: Array) -> None:
        """Count the votes of some of the step's queries, which come in order and may not be shown the last rows."""
        skipped = min(self._unasked, probs.shape[2])
        self._unasked -= skipped
        if skipped < probs.shape[2]:
            received = attention_received(self.ops, probs[:, :, skipped:, :], self.shape.n_heads)
            shown = slice(0, received.shape[1])
            self._votes[:, shown] = self._votes[:, shown] + received

    def _choose(self, pos: Span) -> Array | None:
        if pos.size == 1 or self.rows <= self.budget:
            return None
        window = self._window(pos)
        others = self.rows - window
        chosen = best_columns(self.ops, max_pooled(self.ops, self._votes[:, :others]), self.budget - window)
        return followed_by(self.ops, chosen, others, self.rows)
