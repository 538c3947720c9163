"""Attention on plain arrays: the transformer's own `attend`, with masks, pasts and windows made by hand.

The semantics are those of the ONNX operator Attention (opsets 23 to 25,
https://onnx.ai/onnx/operators/onnx__Attention.html).
"""

from typing import Any, NamedTuple

import numpy as np

from kvsim.arrays import get_backend
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span, View
from kvsim.transformer.attention import attend
from kvsim.transformer.positions import Mask

MODES = ("scores", "capped", "masked", "probs")  # what `qk_mode` 0 to 3 returns


class Result(NamedTuple):
    """What comes back: the output, keys and values with the past before them, and the scores asked for."""

    output: Any  # as q: [B, H, T, K'] or [B, T, H·K']
    keys: Any  # [B, G, S, K]
    values: Any  # [B, G, S, K']
    scores: Any  # [B, H, T, S]


def split_heads(x: Any, heads: int | None, name: str) -> Any:
    """[B, T, H·K] to [B, H, T, K]; four-dimensional arrays as they are."""
    if x.ndim == 4:
        return x
    if x.ndim != 3 or not heads or x.shape[2] % heads:
        raise UsageError(
            "{name} must be [B, H, T, K], or [B, T, H·K] with the number of its heads, got {shape}",
            name=name,
            shape=list(x.shape),
        )
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)


def spread_mask(mask: Any, shape: tuple[int, ...]) -> Any:
    """A mask as wide as all keys (what is missing at its end is not allowed), for every batch and head."""
    missing = shape[-1] - mask.shape[-1]
    if missing > 0:
        never = False if mask.dtype == bool else -np.inf
        mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=never)
    return np.broadcast_to(mask, shape)


def allowed_pairs(
    n_queries: int, n_keys: int, offset: int, causal: bool, left: int | None, right: int | None, valid: int
) -> Any:
    """[T, S]: query i stands at position offset + i and sees keys up to itself if `causal`, no further than
    `left` before and `right` after it, and only the first `valid`."""
    key = np.arange(n_keys)[None, :]
    query = offset + np.arange(n_queries)[:, None]
    allowed = np.broadcast_to(key < valid, (n_queries, n_keys))
    if causal:
        allowed = allowed & (key <= query)
    if left is not None:
        allowed = allowed & (key >= query - left)
    if right is not None:
        allowed = allowed & (key <= query + right)
    return allowed


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float = 0.0,
    past_key: Any = None,
    past_value: Any = None,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    nonpad_kv_seqlen: Any = None,
    left_window: int | None = None,
    right_window: int | None = None,
    qk_mode: int = 0,
    softmax_dtype: str | None = None,
) -> Result:
    """softmax(cap(scale · QKᵀ) + mask) V for NumPy arrays, computed as the transformer computes it.

    q [B, H, T, K], k [B, G, S, K], v [B, G, S, K'], or [B, T, H·K] and so on with the numbers of heads.
    `mask` is boolean (True: may see) or added to the scores, and broadcasts to [B, H, T, S]; `past_*` stand
    before k and v. Causal: query i sees keys up to i + the length of the past (or `nonpad_kv_seqlen` - T). A
    query that may see nothing gives 0. `qk_mode`: which scores come back, scaled (0), capped (1), masked (2)
    or after softmax (3).

    UsageError: arrays whose shapes do not go together.
    """
    flat = q.ndim == 3
    q, k, v = (
        split_heads(x, h, n) for x, h, n in ((q, q_num_heads, "q"), (k, kv_num_heads, "k"), (v, kv_num_heads, "v"))
    )
    if past_key is not None:
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    n_batch, n_heads, n_queries, d_head = q.shape
    n_groups, n_keys = k.shape[1], k.shape[2]
    if n_heads % n_groups or k.shape[3] != d_head or v.shape[:3] != k.shape[:3] or k.shape[0] != n_batch:
        raise UsageError("q {q}, k {k} and v {v} do not go together", q=q.shape, k=k.shape, v=v.shape)
    scale = d_head**-0.5 if scale is None else scale
    ops = Ops(get_backend("numpy"), q.dtype.name)
    if softmax_dtype in ("float32", "float64"):
        ops.wide_dtype = np.promote_types(softmax_dtype, ops.wide_dtype)
    shape = (n_batch, n_heads, n_queries, n_keys)
    added = None if mask is None or mask.dtype == bool else spread_mask(mask, shape)
    outputs, shown = [], []
    for b in range(n_batch):
        valid = n_keys if nonpad_kv_seqlen is None else int(nonpad_kv_seqlen[b])
        offset = 0 if past_key is None else past_key.shape[2]
        if nonpad_kv_seqlen is not None:
            offset = valid - n_queries
        allowed = np.broadcast_to(
            allowed_pairs(n_queries, n_keys, offset, causal, left_window, right_window, valid), shape[1:]
        )
        if mask is not None:
            allowed = allowed & (spread_mask(mask, shape)[b] if added is None else added[b] > -np.inf)
        blind = ~allowed.any(axis=-1, keepdims=True)  # queries that see nothing: softmax over them is not defined
        groups = (n_groups, n_heads // n_groups, n_queries, n_keys)
        bias = None if added is None else np.where(allowed, added[b], 0).astype(q.dtype).reshape(groups)
        view = View(k[b], v[b], Span(0, n_keys), Span(offset, offset + n_queries))
        pairs = Mask((allowed | blind).reshape(groups), (int(allowed.sum()), allowed.size))
        with ops.watch(*MODES) as seen:
            context = attend(ops, q[b].reshape(*groups[:3], d_head), view, pairs, scale, bias, softcap or None)
        outputs.append(np.where(blind, 0, context.reshape(n_heads, n_queries, -1)))
        picture = seen[MODES[qk_mode]].reshape(shape[1:])
        if qk_mode >= 2:
            picture = np.where(blind, -np.inf if qk_mode == 2 else 0, picture)
        shown.append(picture)
    output = np.stack(outputs).astype(q.dtype, copy=False)
    if flat:
        output = output.transpose(0, 2, 1, 3).reshape(n_batch, n_queries, -1)
    return Result(output, k, v, np.stack(shown).astype(q.dtype, copy=False))
