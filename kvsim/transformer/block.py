"""One layer: attention, cross-attention if there is a source, then feed-forward. The model's `residual` says what is
normalised and what is added (see `kvsim.config.Residual`).
"""

from collections.abc import Callable

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.transformer.attention import Sequence, attention, cross_attention
from kvsim.transformer.experts import mixture
from kvsim.transformer.feed_forward import feed_forward
from kvsim.transformer.latent import latent_attention
from kvsim.transformer.positions import Positions
from kvsim.weights import Attention, Half, LatentAttention, Layer, Mixture, Norm

Part = Callable[[Array], Array]


def normed(ops: Ops, config: Config, x_TD: Array, norm: Norm | None) -> Array:
    """x normalised; x itself if `w` is None."""
    return x_TD if norm is None else ops.norm(config.norm, x_TD, norm, config.norm_eps)


def add_half(ops: Ops, config: Config, norms: Half, x_TD: Array, part: Part) -> Array:
    """x plus the output of `part`, normalised at the places where the model has a norm."""
    before_TD = normed(ops, config, x_TD, norms.before)
    branch_TD = normed(ops, config, part(before_TD), norms.branch)
    kept_TD = before_TD if config.residual == "normed" else x_TD
    return normed(ops, config, ops.add(kept_TD, branch_TD), norms.total)


def block(
    ops: Ops, config: Config, w: Layer, x_TD: Array, sequences: list[Sequence], layer: int, positions: Positions
) -> Array:
    """[T, D] to [T, D]."""
    kind = config.layers[layer]

    def attend(x_TD: Array) -> Array:
        if isinstance(w.attention, LatentAttention):
            return latent_attention(ops, config, kind, w.attention, x_TD, sequences, layer, positions)
        return attention(ops, config, kind, w.attention, x_TD, sequences, layer, positions)

    def cross(x_TD: Array) -> Array:
        assert isinstance(w.cross, Attention)
        return cross_attention(ops, config, kind, w.cross, x_TD, sequences, layer)

    def feed(x_TD: Array) -> Array:
        if isinstance(w.ff, Mixture):
            assert kind.experts is not None
            return mixture(ops, config, kind.experts, w.ff, x_TD)
        return feed_forward(ops, config, w.ff, x_TD)

    if config.residual in ("parallel", "parallel_two"):
        first_TD = normed(ops, config, x_TD, w.attention_norms.before)
        second_TD = first_TD
        if config.residual == "parallel_two":
            second_TD = normed(ops, config, x_TD, w.ff_norms.before)
        return ops.add(ops.add(x_TD, attend(first_TD)), feed(second_TD))
    x_TD = add_half(ops, config, w.attention_norms, x_TD, attend)
    if w.cross_norms is not None:
        x_TD = add_half(ops, config, w.cross_norms, x_TD, cross)
    return add_half(ops, config, w.ff_norms, x_TD, feed)
