"""`snapkv:B`: after a prompt, each head keeps the B rows to which the end of the prompt attends most (SnapKV,
arXiv:2404.14469).

After a step of T > 1 tokens that leaves more than B rows, the last w = min(32, T, B) are kept: the observation window,
which is no longer than the step, because only the step's queries are known. Of the others, the B - w with the most
votes are kept. A row's votes are its attention probabilities summed over the w queries and over all query heads that
read the head, then max-pooled over the row and its three neighbours on either side (held rows before the window). The
pooled votes of neighbours are often tied (`kvsim.caches.evicting.ranking`): of these the rows with the most votes of
their own stay, and ties of those go to the older row. A step of one token evicts nothing: generated text is kept.
"""

from kvsim.arrays import Array
from kvsim.caches.base import Encode
from kvsim.caches.evicting.base import EvictingLayer, attention_received, followed_by, zeros
from kvsim.caches.evicting.ranking import best_columns
from kvsim.errors import Words
from kvsim.ops import Ops
from kvsim.spans import Span, View

WINDOW = 32  # queries that vote
KERNEL = 7  # rows that are pooled


def max_pooled(ops: Ops, votes: Array) -> Array:
    """The maximum over the KERNEL votes centred on each of [G, N], fewer at the edges. Votes are not negative."""
    xp, (g, n) = ops.xp, votes.shape
    edge = zeros(ops, g, KERNEL // 2)
    padded, pooled = xp.concat([edge, votes, edge], axis=1), votes
    for shift in range(KERNEL):
        pooled = xp.maximum(pooled, padded[:, shift : shift + n])
    return pooled


class SnapLayer(EvictingLayer):
    """The votes [G, S] are collected during a step and used when it is committed."""

    example = "snapkv:256"
    promise = Words("B rows of each head after a prompt: its last 32, and those that they attend to most")
    paper = "arXiv:2404.14469"

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        (view,) = super().update(keys, values, pos, encode)
        if pos.size == 1:
            return (view,)
        self._votes = zeros(self.ops, self.shape.n_heads, self.rows)
        self._before_window = pos.size - self._window(pos)  # queries of this step still to come before the window
        return (view._replace(observer=self._observe),)

    def _window(self, pos: Span) -> int:
        return min(WINDOW, pos.size, self.budget)

    def _observe(self, queries: Array, probs: Array) -> None:
        """Adds the votes of some of the step's queries, which come in order and may have seen only the first rows."""
        skipped = min(self._before_window, probs.shape[2])
        self._before_window -= skipped
        if skipped < probs.shape[2]:
            received = attention_received(self.ops, probs[:, :, skipped:, :], self.shape.n_heads)
            shown = slice(0, received.shape[1])
            self._votes[:, shown] = self._votes[:, shown] + received

    def _choose(self, pos: Span) -> Array | None:
        if pos.size == 1 or self.rows <= self.budget:
            return None
        window = self._window(pos)
        others = self.rows - window
        votes = self._votes[:, :others]
        chosen = best_columns(self.ops, max_pooled(self.ops, votes), self.budget - window, votes)
        return followed_by(self.ops, chosen, others, self.rows)
