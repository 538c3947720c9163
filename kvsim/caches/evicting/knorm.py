"""`knorm:B`: each head keeps the B rows whose keys have the smallest L2 norm ("A Simple and Effective L2 Norm-Based
Strategy for KV Cache Compression", arXiv:2406.11430: such keys receive the most attention).

If more than B rows are held after a step, the newest is kept and, of the others, those with the smallest norms; ties
(`kvsim.caches.evicting.ranking`) go to the older row. The rows kept in the first layer do not depend on how the text is
cut into steps. Norms are those of keys without positions, which rotary encoding does not change.
"""

from kvsim.arrays import Array
from kvsim.caches.evicting.base import ScoredLayer, followed_by
from kvsim.caches.evicting.ranking import best_columns
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span


class ShortKeysLayer(ScoredLayer):
    """A row's score is minus the squared norm of its key, which ranks rows as the norm does."""

    example = "knorm:256"
    promise = Words("B rows of each head: those with the shortest keys, and the newest")
    paper = "arXiv:2406.11430"

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: int) -> None:
        super().check(spec, config, ops, options)
        if config.latent is not None and config.latent.form != "cached_expanded":
            raise UsageError(
                "the cache {spec} ranks rows by the norm of their keys, but this model caches normalised latents:"
                ' load it with latent="cached_expanded"',
                spec=spec,
            )

    def _begin(self, keys: Array) -> Array:
        wide = self.ops.xp.astype(keys, self.ops.wide_dtype, copy=False)
        return -self.ops.xp.sum(wide * wide, axis=-1)

    def _choose(self, pos: Span) -> Array | None:
        if self.rows <= self.budget:
            return None
        others = self.rows - 1
        short = best_columns(self.ops, self._scores[:, :others], self.budget - 1)
        return followed_by(self.ops, short, others, self.rows)
