"""`knorm:B`: of every head the rows whose keys are shortest ("A Simple and Effective L2 Norm-Based Strategy for
KV Cache Compression", arXiv:2406.11430: keys of small norm get most attention).

When more than B rows are held after a step, those with the smallest L2 norm of the key stay; of equals the older. The
newest always stays. Norms are taken of keys without their positions: rotary ones do not change a length but by
rounding, and that would decide between rows of one token, whose keys in the first layer are the same.
"""

from kvsim.arrays import Array
from kvsim.caches.evicting.base import ScoredLayer, best_columns, followed_by
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span


class ShortKeysLayer(ScoredLayer):
    """A row's score is minus the square of its key's norm, which is ranked as the norm is."""

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

    def _begin(self, keys: Array) -> Array:
        wide = self.ops.xp.astype(keys, self.ops.wide_dtype, copy=False)
        return -self.ops.xp.sum(wide * wide, axis=-1)

    def _choose(self, pos: Span) -> Array | None:
        if self.rows <= self.budget:
            return None
        others = self.rows - 1
        short = best_columns(self.ops, self._scores[:, :others], self.budget - 1)
        return followed_by(self.ops, short, others, self.rows)
