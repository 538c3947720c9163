"""The whole model: ids in, logits out. The same lines with and without a cache."""

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.transformer.attention import Sequence
from kvsim.transformer.block import block
from kvsim.transformer.positions import Positions
from kvsim.weights import Weights


def embed(ops: Ops, weights: Weights, ids_T: Array, sequences: list[Sequence]) -> Array:
    """The tokens' vectors [T, D], with learned positions added where the model has them."""
    xp = ops.xp
    x_TD = xp.take(weights.tokens, ids_T, axis=0)
    if weights.positions is None:
        return x_TD
    learned = [weights.positions[s.pos.start : s.pos.stop, :] for s in sequences]
    positions_TD = xp.concat(learned, axis=0)
    return x_TD + positions_TD


def last_rows(ops: Ops, x_TD: Array, sequences: list[Sequence]) -> Array:
    """The last new token of each sequence: [N, D]."""
    last_N = ops.ids([s.rows.stop - 1 for s in sequences])
    return ops.xp.take(x_TD, last_N, axis=0)


def decode(
    ops: Ops, config: Config, weights: Weights, ids_T: Array, sequences: list[Sequence], last_only: bool
) -> Array:
    """Logits [T, V] of the new tokens of all sequences laid end to end; [N, V] with `last_only`."""
    positions = Positions(ops, config)
    x_TD = embed(ops, weights, ids_T, sequences)
    ops.see("embedding", x_TD)
    for layer, w in enumerate(weights.layers):
        with ops.at("layers", layer):
            x_TD = block(ops, config, w, x_TD, sequences, layer, positions)
            ops.see("hidden", x_TD)
    x_TD = ops.norm(config.norm, x_TD, weights.final_norm, config.norm_eps)
    ops.see("final", x_TD)
    if last_only:
        x_ND = last_rows(ops, x_TD, sequences)
        return ops.linear("head", x_ND, weights.head)
    return ops.linear("head", x_TD, weights.head)
