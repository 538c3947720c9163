"""`knorm:B`: of every head the rows whose keys are shortest ("A Simple and Effective L2 Norm-Based Strategy for
KV Cache Compression", arXiv:2406.11430: keys of small norm get most attention).

When more than B rows are held after a step, those with the smallest L2 norm of the key stay; of equals the older. The
newest always stays. Norms are of the keys as they are held, which rotary positions do not change but for rounding.
"""

from kvsim.arrays import Array
from kvsim.caches.evicting import EvictingLayer, best_columns, followed_by
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span


class ShortKeysLayer(EvictingLayer):
    """Norms are computed from the keys when they are needed: nothing is kept for them."""

    example = "knorm:256"
    promise = Words("B rows of each head: those with the shortest keys, and the newest")
    paper = "arXiv:2406.11430"

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: int) -> None:
        super().check(spec, config, ops, options)
        if config.latent is not None and config.latent.form != "cached_expanded":
            raise UsageError(
                "the cache {spec} goes by the length of keys, and what this model caches are normalised latents:"
                ' load it with latent="cached_expanded"',
                spec=spec,
            )

    def _choose(self, pos: Span) -> Array | None:
        if self.rows <= self.budget:
            return None
        xp, others = self.ops.xp, self.rows - 1
        wide = xp.astype(self._keys[:, :others, :], self.ops.wide_dtype, copy=False)
        squares = xp.sum(wide * wide, axis=-1)  # in the order of the norms
        return followed_by(self.ops, best_columns(self.ops, -squares, self.budget - 1), others, self.rows)
