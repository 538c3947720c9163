"""Attention on plain NumPy arrays: the transformer's own `attend`, with masks, a past and windows as arguments.

The semantics are those of the ONNX operator Attention (opsets 23 to 25,
https://onnx.ai/onnx/operators/onnx__Attention.html).
"""

from typing import Any, NamedTuple

import numpy as np

from kvsim.arrays import get_backend
from kvsim.checks import LARGEST, check_finite, check_flag, check_kind, check_list, check_whole, is_name
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Span, View
from kvsim.transformer.attention import Scoring, attend
from kvsim.transformer.positions import Mask

SOFTMAX_DTYPES = ("float16", "bfloat16", "float32", "float64")
WANTED = Words("a NumPy array of floating point numbers with three or four axes")
MODES = ("scores", "capped", "masked", "probs")  # what `qk_mode` 0 to 3 returns


class Result(NamedTuple):
    """The output, the keys and values including the past, and the scores that `qk_mode` selects."""

    output: Any  # as q: [B, H, T, K'] or [B, T, H·K']
    keys: Any  # [B, G, S, K]
    values: Any  # [B, G, S, K']
    scores: Any  # [B, H, T, S]

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{name} {list(x.shape)}' for name, x in zip(self._fields, self, strict=True))})"


class Inputs(NamedTuple):
    """Queries [B, H, T, K], keys [B, G, S, K] and values [B, G, S, K'], the past included."""

    q: Any
    k: Any
    v: Any

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[B, H, T, S], of scores."""
        return (*self.q.shape[:3], self.k.shape[2])

    @property
    def groups(self) -> tuple[int, int, int, int]:
        """[G, R, T, S], of the scores of one text, by key/value head."""
        _, n_heads, n_queries, n_keys = self.shape
        n_groups = self.k.shape[1]
        return n_groups, n_heads // n_groups, n_queries, n_keys


class Visible(NamedTuple):
    """Which keys a query sees: see `attention` for what they mean."""

    mask: Any
    causal: bool
    left: int | None
    right: int | None
    past: int  # rows of the past
    lengths: Any  # nonpad_kv_seqlen

    @property
    def bias(self) -> Any:
        """The mask if it is added to the scores; None if it is boolean, or there is none."""
        return None if self.mask is None or self.mask.dtype == bool else self.mask

    def span(self, b: int, n_queries: int, n_keys: int) -> tuple[int, int]:
        """Of text `b`: the position of its first query, and how many of the keys are valid."""
        if self.lengths is None:
            return self.past, n_keys
        valid = int(self.lengths[b])
        return valid - n_queries, valid

    def pairs(self, b: int, shape: tuple[int, int, int, int]) -> Any:
        """[H, T, S] booleans of text `b`: may the query see the key?"""
        _, n_heads, n_queries, n_keys = shape
        offset, valid = self.span(b, n_queries, n_keys)
        key = np.arange(n_keys)[None, :]
        query = offset + np.arange(n_queries)[:, None]
        allowed = np.broadcast_to(key < valid, (n_queries, n_keys))
        if self.causal:
            allowed = allowed & (key <= query)
        if self.left is not None:
            allowed = allowed & (key >= query - self.left)
        if self.right is not None:
            allowed = allowed & (key <= query + self.right)
        allowed = np.broadcast_to(allowed, (n_heads, n_queries, n_keys))
        if self.mask is None:
            return allowed
        mask = spread_mask(self.mask, shape)[b]
        return allowed & (mask if self.bias is None else mask > -np.inf)


def split_heads(x: Any, heads: int | None, name: str) -> Any:
    """[B, T, H·K] as [B, H, T, K]; four-dimensional arrays unchanged. UsageError: another shape."""
    heads = None if heads is None else check_whole(Words("the number of heads"), heads, 1)
    if x.ndim == 4 and heads in (None, x.shape[1]):
        return x
    if x.ndim == 4 or heads is None or x.shape[2] % heads:
        raise UsageError(
            "{name} must be [B, H, T, K], or [B, T, H·K] with the number of its heads, got {shape}",
            name=name,
            shape=list(x.shape),
        )
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)


def spread_mask(mask: Any, shape: tuple[int, ...]) -> Any:
    """The mask broadcast to `shape`, [B, H, T, S]. Keys beyond the end of a shorter mask are not visible."""
    missing = shape[-1] - mask.shape[-1]
    if missing > 0:
        never = False if mask.dtype == bool else -np.inf
        mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=never)
    return np.broadcast_to(mask, shape)


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

    q [B, H, T, K], k [B, G, S, K], v [B, G, S, K'], or [B, T, H·K] and so on with the numbers of heads. `mask` is
    boolean (True: visible) or added to the scores, and broadcasts to [B, H, T, S]. `past_*` are put before k and v.
    Causal: query i sees keys up to i + the length of the past (or `nonpad_kv_seqlen` - T). A query that sees no key
    gives 0. `qk_mode` selects the scores that are returned: scaled (0), capped (1), masked (2) or after softmax (3).

    UsageError: no arrays, arrays whose shapes or dtypes do not go together, or an option out of range.
    """
    past_rows = {} if past_key is None and past_value is None else {"past_key": past_key, "past_value": past_value}
    _check_arrays({"q": q, "k": k, "v": v, **past_rows})
    flat = q.ndim == 3
    inputs = _join(
        Inputs(split_heads(q, q_num_heads, "q"), split_heads(k, kv_num_heads, "k"), split_heads(v, kv_num_heads, "v")),
        past_key, past_value,
    )  # fmt: skip
    past = 0 if past_key is None else past_key.shape[2]
    lengths = None if nonpad_kv_seqlen is None else _read_lengths(nonpad_kv_seqlen, inputs.shape)
    left, right = (None if n is None else check_whole(name, n, 0, LARGEST)
                   for name, n in (("left_window", left_window), ("right_window", right_window)))  # fmt: skip
    visible = Visible(_read_mask(mask, inputs.shape, q.dtype), check_flag("causal", causal), left, right, past, lengths)
    scale = inputs.q.shape[3] ** -0.5 if scale is None else check_finite("scale", scale)
    softcap, qk_mode = check_finite("softcap", softcap, 0.0), check_whole("qk_mode", qk_mode, 0, len(MODES) - 1)
    ops = Ops(get_backend("numpy"), q.dtype.name)
    if softmax_dtype is not None and not is_name(softmax_dtype, SOFTMAX_DTYPES):
        raise UsageError("unknown dtype {dtype}: use one of {known}", dtype=shortened(softmax_dtype),
                         known=", ".join(SOFTMAX_DTYPES))  # fmt: skip
    if softmax_dtype in ("float32", "float64"):
        ops.wide_dtype = np.promote_types(softmax_dtype, ops.wide_dtype)
    texts = [_attend(ops, inputs, b, visible, (scale, softcap or None), qk_mode) for b in range(len(inputs.q))]
    output, scores = (np.stack(parts).astype(q.dtype, copy=False) for parts in zip(*texts, strict=True))
    if flat:
        output = output.transpose(0, 2, 1, 3).reshape(len(output), inputs.q.shape[2], -1)
    return Result(output, inputs.k, inputs.v, scores)


def _check_arrays(given: dict[str, Any]) -> None:
    """UsageError: q, k, v or a past that is no NumPy array of floating point numbers with three or four axes, or one of
    another dtype than the others."""
    for name, x in given.items():
        check_kind(name, isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim in (3, 4), x, WANTED)
        if x.size == 0 and not name.startswith("past"):
            raise UsageError("{name} is empty, of shape {shape}", name=name, shape=list(x.shape))
    if len(dtypes := {x.dtype.name for x in given.values()}) > 1:
        raise UsageError("expected arrays of one dtype, got {got}", got=", ".join(sorted(dtypes)))


def _read_mask(mask: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The mask, booleans or numbers in `dtype`. UsageError: one that cannot be spread over the scores [B, H, T, S]."""
    if mask is None:
        return None
    fits = isinstance(mask, np.ndarray) and mask.dtype.kind in "bfiu" and mask.ndim > 0
    check_kind("mask", fits, mask, Words("a NumPy array of booleans or numbers"))
    sizes = (1,) * (4 - mask.ndim) + mask.shape
    known = len(sizes) == 4 and all(n in (1, whole) for n, whole in zip(sizes[:3], shape, strict=False))
    if not known or not 0 < sizes[3] <= shape[3]:
        raise UsageError("a mask of shape {got} does not fit scores of shape {shape}", got=list(mask.shape),
                         shape=list(shape))  # fmt: skip
    return mask if mask.dtype == bool else mask.astype(dtype)


def _read_lengths(given: Any, shape: tuple[int, ...]) -> list[int]:
    """The number of valid keys of each text. UsageError: not one from 0 to the number of keys for each."""
    lengths = [check_whole("nonpad_kv_seqlen", n, 0, shape[3]) for n in check_list("nonpad_kv_seqlen", given)]
    if len(lengths) != shape[0]:
        raise UsageError("nonpad_kv_seqlen has {got} lengths for {count} texts", got=len(lengths), count=shape[0])
    return lengths


def _join(inputs: Inputs, past_key: Any, past_value: Any) -> Inputs:
    """With the past before k and v. UsageError: shapes that do not go together."""
    q, k, v = inputs
    if past_key is not None:
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    if q.shape[1] % k.shape[1] or k.shape[3] != q.shape[3] or v.shape[:3] != k.shape[:3] or k.shape[0] != q.shape[0]:
        raise UsageError("q {q}, k {k} and v {v} do not go together", q=q.shape, k=k.shape, v=v.shape)
    return Inputs(q, k, v)


def _attend(
    ops: Ops, inputs: Inputs, b: int, visible: Visible, scaling: tuple[float, float | None], mode: int
) -> tuple[Any, Any]:
    """Text `b`: the output [H, T, K'] and the scores [H, T, S]. `scaling`: the scale, and the cap if there is one."""
    shape, groups = inputs.shape, inputs.groups
    _, n_heads, n_queries, n_keys = shape
    allowed = visible.pairs(b, shape)
    blind = ~allowed.any(axis=-1, keepdims=True)  # softmax over no key is not defined
    bias = None
    if visible.bias is not None:
        bias = np.where(allowed, spread_mask(visible.bias, shape)[b], 0).astype(inputs.q.dtype).reshape(groups)
    offset, _ = visible.span(b, n_queries, n_keys)
    view = View(inputs.k[b], inputs.v[b], Span(0, n_keys), Span(offset, offset + n_queries))
    pairs = Mask((allowed | blind).reshape(groups), (int(allowed.sum()), allowed.size))
    scale, cap = scaling
    with ops.watch(*MODES) as seen:
        context = attend(ops, inputs.q[b].reshape(*groups[:3], -1), view, Scoring(scale, pairs, cap, bias))
    scores = seen[MODES[mode]].reshape(shape[1:])
    if mode >= 2:
        scores = np.where(blind, -np.inf if mode == 2 else 0, scores)
    return np.where(blind, 0, context.reshape(n_heads, n_queries, -1)), scores
