"""The whole model: ids in, logits out. The same lines run with and without a cache; an encoder is the same stack
without a causal mask.
"""

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.transformer.attention import Sequence
from kvsim.transformer.block import block, normed
from kvsim.transformer.positions import Positions
from kvsim.weights import Weights


def embed(ops: Ops, config: Config, weights: Weights, ids_T: Array) -> Array:
    """The embeddings of the tokens: [T, D]."""
    x_TP = ops.xp.take(weights.tokens, ids_T, axis=0)
    if config.embedding_scale != 1.0:
        x_TP = x_TP * config.embedding_scale
    return x_TP if weights.project_in is None else ops.linear("project_in", x_TP, weights.project_in)


def run_layers(ops: Ops, config: Config, weights: Weights, x_TD: Array, sequences: list[Sequence]) -> Array:
    """Embeddings [T, D] with positions added, through every layer and the final norm: [T, D]."""
    xp = ops.xp
    if weights.positions is not None:
        learned = [weights.positions[s.pos.start : s.pos.stop, :] for s in sequences]
        x_TD = x_TD + (learned[0] if len(learned) == 1 else xp.concat(learned, axis=0))
    x_TD = normed(ops, config, x_TD, weights.embedding_norm)
    ops.see("embedding", x_TD)
    positions = Positions(ops, config, weights.buckets)
    for layer, w in enumerate(weights.layers):
        with ops.at("layers", layer):
            x_TD = block(ops, config, w, x_TD, sequences, layer, positions)
            ops.see("hidden", x_TD)
    x_TD = normed(ops, config, x_TD, weights.final_norm)
    ops.see("final", x_TD)
    return x_TD


def last_rows(ops: Ops, x_TD: Array, sequences: list[Sequence]) -> Array:
    """The row of each sequence's last new token: [N, D]."""
    last_N = ops.ids([s.rows.stop - 1 for s in sequences])
    return ops.xp.take(x_TD, last_N, axis=0)


def read_out(ops: Ops, config: Config, weights: Weights, x_ND: Array) -> Array:
    """Logits [N, V] of N rows of the final norm's output."""
    assert weights.head is not None
    x_NP = x_ND if weights.project_out is None else ops.linear("project_out", x_ND, weights.project_out)
    if config.head_scale != 1.0:
        x_NP = x_NP * config.head_scale
    logits_NV = ops.linear("head", x_NP, weights.head)
    if config.logit_scale != 1.0:
        logits_NV = logits_NV * config.logit_scale
    return logits_NV if config.logit_cap is None else ops.soft_cap(logits_NV, config.logit_cap)


def decode(
    ops: Ops, config: Config, weights: Weights, ids_T: Array, sequences: list[Sequence], last_only: bool
) -> Array:
    """Logits [T, V] of the new tokens of all sequences, concatenated; with `last_only` [N, V], one row for each
    sequence."""
    x_TD = run_layers(ops, config, weights, embed(ops, config, weights, ids_T), sequences)
    return read_out(ops, config, weights, last_rows(ops, x_TD, sequences) if last_only else x_TD)
