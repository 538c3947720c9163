"""Self-attention (arXiv:1706.03762) with grouped queries (arXiv:2305.13245), and cross-attention.

Multi-head attention is G = H, multi-query G = 1. Keys and values are never repeated: the R query heads of a group read
their one key/value head by broadcasting. Query head h = g·R + r reads key/value head g.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from kvsim.arrays import Array
from kvsim.checks import is_name
from kvsim.config import Config, LayerKind
from kvsim.errors import UsageError, shortened
from kvsim.ops import Ops
from kvsim.spans import Scattered, Span, View, narrower
from kvsim.transformer.positions import Encode, Mask, Positions
from kvsim.weights import Attention, Norm

# Watched places inside attention, whose arrays have a row for every query or every key.
INSIDE = ("query", "key", "value", "scores", "capped", "masked", "probs", "context")
# The number of queries that attention computes at a time (None: all). "blocked" skips most of what lies above the
# diagonal; latent attention, and layers whose score matrices are watched, compute full squares all the same. The ledger
# shows what ran.
ATTENTION = {"square": None, "blocked": 128}


def check_attention(name: Any) -> None:
    """UsageError: no key of `ATTENTION`."""
    if not is_name(name, ATTENTION):
        raise UsageError("unknown attention {got}: use one of {known}", got=shortened(name), known=", ".join(ATTENTION))


class LayerCache(Protocol):
    """A cache, as attention sees it: `update` takes the new rows and returns the keys and values that their queries
    may see, one `View` for each group of queries that see the same rows, in order."""

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View, ...]: ...


class CrossCache(Protocol):
    """What cross-attention needs of a cache: all rows of the source, computed by `make` at the first read."""

    def read(self, make: Callable[[], tuple[Any, Any]]) -> View: ...


class Sequence(NamedTuple):
    """One sequence of a batch: its rows in T, their positions, and its caches."""

    rows: slice
    pos: Span
    layers: tuple[LayerCache, ...]
    cross: tuple[CrossCache, ...] = ()
    source: Any = None  # the encoder's output [S, D]; None if the cross caches hold its keys and values


class Scoring(NamedTuple):
    """How products QKᵀ become probabilities: scaled, capped, biased, masked, normalised with sinks."""

    scale: float
    mask: Mask | None = None
    cap: float | None = None  # cap · tanh(score / cap)
    bias_GRTS: Array | None = None
    sinks_H: Array | None = None


def see_inputs(ops: Ops, q_GRTK: Array, view: View, prefix: str) -> None:
    """Show watchers the queries, keys and values that attention multiplies. A cache may later overwrite the arrays that
    its views show, so what is shown of keys and values is a copy."""
    ops.see(f"{prefix}query", q_GRTK)
    for name, rows_GSK in (("key", view.keys), ("value", view.values)):
        if ops.is_watched(prefix + name):
            ops.see(prefix + name, ops.xp.concat([rows_GSK], axis=0))


def attend(ops: Ops, q_GRTK: Array, view: View, scoring: Scoring, prefix: str = "") -> Array:
    """softmax(scale · QKᵀ) V over the rows of `view`: [G, R, T, K]. Positions are already encoded in queries and
    keys."""
    xp = ops.xp
    scale, mask, cap, bias_GRTS, sinks_H = scoring
    if ops.has_watchers:
        see_inputs(ops, q_GRTK, view, prefix)
    admitted = None if mask is None else mask.admitted
    k_G1KS = xp.matrix_transpose(view.keys[:, None, :, :])
    scores_GRTS = ops.scale(ops.matmul(f"{prefix}scores", q_GRTK, k_G1KS, admitted), scale)
    ops.see(f"{prefix}scores", scores_GRTS)
    if cap is not None:
        scores_GRTS = ops.soft_cap(scores_GRTS, cap)
    ops.see(f"{prefix}capped", scores_GRTS)
    if bias_GRTS is not None:
        scores_GRTS = scores_GRTS + bias_GRTS
    if mask is not None and mask.allowed is not None:
        scores_GRTS = ops.mask(scores_GRTS, mask.allowed, mask.first)
    ops.see(f"{prefix}masked", scores_GRTS)
    sinks_GR11 = None if sinks_H is None else xp.reshape(sinks_H, (*q_GRTK.shape[:2], 1, 1))
    probs_GRTS = ops.softmax(scores_GRTS, sinks_GR11)
    ops.see(f"{prefix}probs", probs_GRTS)
    view.observe(q_GRTK, probs_GRTS)
    context_GRTK = ops.matmul(f"{prefix}context", probs_GRTS, view.values[:, None, :, :], admitted)
    ops.see(f"{prefix}context", context_GRTK)
    return context_GRTK


def to_groups(ops: Ops, q_THK: Array, n_groups: int) -> Array:
    """[T, H, K] to [G, R, T, K]."""
    n_new, n_heads, d_head = q_THK.shape
    q_TGRK = ops.xp.reshape(q_THK, (n_new, n_groups, n_heads // n_groups, d_head))
    return ops.xp.permute_dims(q_TGRK, (1, 2, 0, 3))


def merge_heads(ops: Ops, context_GRTK: Array) -> Array:
    """[G, R, T, K] to [T, H·K]."""
    n_groups, per_group, n_new, d_head = context_GRTK.shape
    context_TGRK = ops.xp.permute_dims(context_GRTK, (2, 0, 1, 3))
    return ops.xp.reshape(context_TGRK, (n_new, n_groups * per_group * d_head))


def project(ops: Ops, config: Config, w: Attention, kind: str, x_TD: Array, prefix: str = "") -> Array:
    """Queries, keys or values of every head: [T, H, K] or [T, G, K], normalised if the model does so."""
    xp = ops.xp
    norm: Norm | None = getattr(w, f"{kind}_norm", None)
    y_T_XK = ops.linear(f"{prefix}{kind}", x_TD, getattr(w, kind))
    if config.clip_qkv is not None:
        y_T_XK = ops.clamp(y_T_XK, config.clip_qkv)
    if norm is not None and config.qk_norm == "whole":
        y_T_XK = ops.norm(config.norm, y_T_XK, norm, config.norm_eps)
    y_TXK = xp.reshape(y_T_XK, (y_T_XK.shape[0], y_T_XK.shape[1] // config.d_head, config.d_head))
    if norm is not None and config.qk_norm != "whole":
        y_TXK = ops.norm(config.norm, y_TXK, norm, config.norm_eps)
    return y_TXK


def in_blocks(q_GRNK: Array, view: View, window: int | None, size: int | None) -> Iterator[tuple[Array, View]]:
    """The view's N queries, `size` at a time, each block with the keys that some query in it may see: nothing above
    the diagonal or before the window is computed. size None, or scattered keys: all queries at once (full squares)."""
    query, key = view.query_pos, view.key_pos
    if size is None or query.size <= size or isinstance(key, Scattered):
        yield q_GRNK, view
        return
    for start in range(query.start, query.stop, size):
        part = Span(start, min(start + size, query.stop))
        seen = Span(key.start if window is None else max(key.start, start + 1 - window), min(key.stop, part.stop))
        columns = slice(seen.start - key.start, seen.stop - key.start)
        rows = slice(part.start - query.start, part.stop - query.start)
        yield (
            q_GRNK[:, :, rows, :],
            view._replace(
                keys=view.keys[:, columns, :], values=view.values[:, columns, :], key_pos=seen, query_pos=part
            ),
        )


class Projected(NamedTuple):
    """Queries, keys and values of some rows, before positions are encoded."""

    q_THK: Array
    k_TGK: Array
    v_TGK: Array


def attend_sequence(
    ops: Ops, config: Config, kind: LayerKind, projected: Projected, cache: LayerCache, pos: Span,
    positions: Positions, sinks_H: Array | None,
) -> Array:  # fmt: skip
    """Attention of one sequence's new tokens to all visible rows: [T, H·K]."""
    xp = ops.xp
    k_GTK, v_GTK = (xp.permute_dims(x_TGK, (1, 0, 2)) for x_TGK in (projected.k_TGK, projected.v_TGK))
    views = cache.update(k_GTK, v_GTK, pos, positions.encoder_of_keys(kind.rope))
    q_GRTK = to_groups(ops, projected.q_THK, config.n_kv_heads)
    scale = config.d_head**-0.5 if kind.scale is None else kind.scale
    contexts = []
    # An encoder has no mask to skip work by; a watched square is computed whole.
    size = None if not config.causal or ops.is_watched(*INSIDE) else ops.query_block
    for view in views:
        window = narrower(kind.window, view.window)
        blocks = in_blocks(
            positions.rotate(kind.rope, q_GRTK[:, :, view.queries, :], view.query_pos), view, window, size
        )
        for q_GRNK, part in blocks:
            mask = positions.mask(part.query_pos, part.key_pos, window)
            bias_GRTS = positions.bias(part.query_pos, part.key_pos)
            scoring = Scoring(scale, mask, config.score_cap, bias_GRTS, sinks_H)
            contexts.append(attend(ops, q_GRNK, part, scoring))
    return merge_heads(ops, contexts[0] if len(contexts) == 1 else xp.concat(contexts, axis=2))


def attention(
    ops: Ops, config: Config, kind: LayerKind, w: Attention, x_TD: Array, sequences: list[Sequence], layer: int,
    positions: Positions,
) -> Array:  # fmt: skip
    """[T, D] to [T, D]: projections process all sequences together, attention each one separately."""
    q_THK = project(ops, config, w, "query", x_TD)
    k_TGK = project(ops, config, w, "key", x_TD)
    v_TGK = project(ops, config, w, "value", x_TD)
    contexts = []
    for s in sequences:
        projected = Projected(q_THK[s.rows, ...], k_TGK[s.rows, ...], v_TGK[s.rows, ...])
        contexts.append(attend_sequence(ops, config, kind, projected, s.layers[layer], s.pos, positions, w.sinks))
    context_T_HK = contexts[0] if len(contexts) == 1 else ops.xp.concat(contexts, axis=0)
    return ops.linear("output", context_T_HK, w.output)


def attend_source(
    ops: Ops, config: Config, kind: LayerKind, w: Attention, q_THK: Array, cache: CrossCache, source_SD: Array | None
) -> Array:
    """Attention of one sequence's new tokens to its source: [T, H·K]."""

    def make() -> tuple[Array, Array]:
        made = [project(ops, config, w, name, source_SD, prefix="cross_") for name in ("key", "value")]
        k_GSK, v_GSK = (ops.xp.permute_dims(x, (1, 0, 2)) for x in made)
        return k_GSK, v_GSK

    scale = config.d_head**-0.5 if kind.scale is None else kind.scale
    q_GRTK = to_groups(ops, q_THK, config.n_kv_heads)
    return merge_heads(ops, attend(ops, q_GRTK, cache.read(make), Scoring(scale), prefix="cross_"))


def cross_attention(
    ops: Ops, config: Config, kind: LayerKind, w: Attention, x_TD: Array, sequences: list[Sequence], layer: int
) -> Array:
    """[T, D] to [T, D]: queries from the text, keys and values from the source, which the cache keeps."""
    q_THK = project(ops, config, w, "query", x_TD, prefix="cross_")
    contexts = [attend_source(ops, config, kind, w, q_THK[s.rows, ...], s.cross[layer], s.source) for s in sequences]
    context_T_HK = contexts[0] if len(contexts) == 1 else ops.xp.concat(contexts, axis=0)
    return ops.linear("cross_output", context_T_HK, w.output)
