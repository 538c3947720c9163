"""One layer: attention, then feed-forward, each on the normalised input and added to it."""

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.transformer.attention import Sequence, attention
from kvsim.transformer.feed_forward import feed_forward
from kvsim.transformer.positions import Positions
from kvsim.weights import Layer


def block(
    ops: Ops,
    config: Config,
    w: Layer,
    x_TD: Array,
    sequences: list[Sequence],
    layer: int,
    positions: Positions,
) -> Array:
    """[T, D] to [T, D]."""
    normed_TD = ops.norm(config.norm, x_TD, w.attention_norm, config.norm_eps)
    x_TD = x_TD + attention(ops, config, w.attention, normed_TD, sequences, layer, positions)
    normed_TD = ops.norm(config.norm, x_TD, w.ff_norm, config.norm_eps)
    return x_TD + feed_forward(ops, config, w.ff, normed_TD)
