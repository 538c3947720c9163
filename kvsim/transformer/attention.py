"""Causal self-attention (arXiv:1706.03762) with grouped queries (arXiv:2305.13245).

Multi-head is G = H, multi-query G = 1. Keys and values are never repeated: each group of R query
heads meets its one key/value head by broadcasting. Query head h = g·R + r reads head g.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.spans import Span, View
from kvsim.transformer.positions import Positions
from kvsim.weights import Attention

Encode = Callable[[Any, Any, Span], tuple[Any, Any]]


class LayerCache(Protocol):
    """All that attention knows of a cache: it takes the new rows and answers with what is visible."""

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View: ...


class Sequence(NamedTuple):
    """One sequence of a batch: where its new tokens stand in T, at which positions, and its cache."""

    rows: slice
    pos: Span
    layers: tuple[LayerCache, ...]


def attend(ops: Ops, q_GRTK: Array, view: View, positions: Positions) -> Array:
    """softmax(QKᵀ / √K) V over what `view` shows: [G, R, T, K]. Queries come encoded."""
    xp = ops.xp
    k_GSK, v_GSK = view.keys, view.values
    mask = positions.mask(view.query_pos, view.key_pos)
    k_G1KS = xp.matrix_transpose(k_GSK[:, None, :, :])
    scores_GRTS = ops.matmul("scores", q_GRTK, k_G1KS, mask.admitted) / math.sqrt(q_GRTK.shape[-1])
    ops.see("scores", scores_GRTS)
    probs_GRTS = ops.softmax(xp.where(mask.allowed, scores_GRTS, -math.inf))
    ops.see("probs", probs_GRTS)
    view.observe(q_GRTK, probs_GRTS)
    return ops.matmul("context", probs_GRTS, v_GSK[:, None, :, :], mask.admitted)


def attend_sequence(
    ops: Ops, q_THK: Array, k_TGK: Array, v_TGK: Array, cache: LayerCache, pos: Span, positions: Positions
) -> Array:
    """The new tokens of one sequence against everything it may see: [T, H·K]."""
    xp = ops.xp
    n_new, n_heads, d_head = q_THK.shape
    k_GTK, v_GTK = xp.permute_dims(k_TGK, (1, 0, 2)), xp.permute_dims(v_TGK, (1, 0, 2))
    view = cache.update(k_GTK, v_GTK, pos, positions.encode_rows)
    n_groups = k_GTK.shape[0]
    q_TGRK = xp.reshape(q_THK, (n_new, n_groups, n_heads // n_groups, d_head))
    q_GRTK = positions.encode(xp.permute_dims(q_TGRK, (1, 2, 0, 3)), view.query_pos)
    context_GRTK = attend(ops, q_GRTK, view, positions)
    context_TGRK = xp.permute_dims(context_GRTK, (2, 0, 1, 3))
    return xp.reshape(context_TGRK, (n_new, n_heads * d_head))


def attention(
    ops: Ops,
    config: Config,
    w: Attention,
    x_TD: Array,
    sequences: list[Sequence],
    layer: int,
    positions: Positions,
) -> Array:
    """[T, D] to [T, D]: the projections see all sequences at once, attention one at a time."""
    xp = ops.xp
    n_new = x_TD.shape[0]
    q_T_HK = ops.linear("query", x_TD, w.query)
    k_T_GK = ops.linear("key", x_TD, w.key)
    v_T_GK = ops.linear("value", x_TD, w.value)
    q_THK = xp.reshape(q_T_HK, (n_new, config.n_heads, config.d_head))
    k_TGK = xp.reshape(k_T_GK, (n_new, config.n_kv_heads, config.d_head))
    v_TGK = xp.reshape(v_T_GK, (n_new, config.n_kv_heads, config.d_head))
    contexts = [
        attend_sequence(
            ops, q_THK[s.rows, ...], k_TGK[s.rows, ...], v_TGK[s.rows, ...], s.layers[layer], s.pos, positions
        )
        for s in sequences
    ]
    context_T_HK = contexts[0] if len(contexts) == 1 else xp.concat(contexts, axis=0)
    return ops.linear("output", context_T_HK, w.output)
