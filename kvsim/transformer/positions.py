"""Everything that depends only on positions: rotary angles, masks, and biases on the scores.

A `Positions` object lives for one forward pass and caches its results, so that layers share them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from kvsim.arrays import Array
from kvsim.config import Alibi, Buckets, Config, Rope
from kvsim.ops import Ops
from kvsim.spans import Keys, Scattered, Span, admitted_pairs
from kvsim.transformer.alibi import slopes
from kvsim.transformer.rotary import depends_on_length, frequencies, rotate

Encode = Callable[[Any, Any, Span], tuple[Any, Any]]


class Mask(NamedTuple):
    """Which query may see which key: booleans [T, S] or [G, 1, T, S] (None: all), and the numbers of admitted and of
    all pairs. Columns before `first` are all allowed."""

    allowed: Array | None
    admitted: tuple[int, int]
    first: int = 0


def rotary_angles(ops: Ops, rope: Rope, pos: Span) -> tuple[Array, Array]:
    """cos and sin of position · frequency, each [T, J], in the model's dtype.

    The angles are computed in float64: in float32 they lose a digit for every digit of the position.
    """
    xp = ops.xp
    length = pos.stop if depends_on_length(rope) else 0
    frequency_J = ops.constants(rope.size // 2, lambda: frequencies(rope, length))
    pos_T = xp.astype(ops.arange(pos.start, pos.stop), xp.float64)
    angle_TJ = pos_T[:, None] * frequency_J[None, :]
    cos_TJ, sin_TJ = xp.cos(angle_TJ), xp.sin(angle_TJ)
    if rope.magnitude != 1.0:
        cos_TJ, sin_TJ = cos_TJ * rope.magnitude, sin_TJ * rope.magnitude
    return xp.astype(cos_TJ, ops.dtype), xp.astype(sin_TJ, ops.dtype)


def key_positions(ops: Ops, key_pos: Keys) -> Array:
    """The positions of keys: [S], or [G, 1, 1, S] if each head keeps different ones."""
    if isinstance(key_pos, Span):
        return ops.arange(key_pos.start, key_pos.stop)
    xp, new_N = ops.xp, ops.arange(key_pos.new.start, key_pos.new.stop)
    if key_pos.old.ndim == 1:
        return xp.concat([key_pos.old, new_N], axis=0)
    new_GN = xp.broadcast_to(new_N[None, :], (key_pos.old.shape[0], key_pos.new.size))
    return xp.concat([key_pos.old, new_GN], axis=1)[:, None, None, :]


def causal_mask(ops: Ops, query_pos: Span, key_pos: Keys, window: int | None) -> Mask:
    """A query sees the keys at its own and earlier positions, at most the last `window`. Positions are compared, never
    indices."""
    admitted = (admitted_pairs(query_pos, key_pos, window), query_pos.size * key_pos.size)
    if admitted[0] == admitted[1]:  # one new token that sees every key
        return Mask(None, admitted)
    query_T1 = ops.arange(query_pos.start, query_pos.stop)[:, None]
    keys = key_positions(ops, key_pos)
    allowed = keys <= query_T1
    if window is None:
        first = query_pos.start + 1 - key_pos.start if isinstance(key_pos, Span) else key_pos.size - key_pos.new.size
        return Mask(allowed, admitted, max(first, 0))
    return Mask(ops.xp.logical_and(allowed, keys > query_T1 - window), admitted)


def alibi_bias(ops: Ops, alibi: Alibi, n_groups: int, query_pos: Span, key_pos: Keys) -> Array:
    """slope · (key position - query position): [G, R, T, S]."""
    xp = ops.xp
    slope_H = xp.astype(ops.constants(alibi.n_heads, lambda: slopes(alibi)), ops.dtype)
    slope_GR11 = xp.reshape(slope_H, (n_groups, alibi.n_heads // n_groups, 1, 1))
    keys = xp.astype(key_positions(ops, key_pos), ops.dtype)
    if alibi.rounded:
        rough = ops.round_bfloat16(ops.round_bfloat16(slope_GR11) * ops.round_bfloat16(keys))
        return rough * alibi.scale
    query_T1 = xp.astype(ops.arange(query_pos.start, query_pos.stop), ops.dtype)[:, None]
    return slope_GR11 * (keys - query_T1) * alibi.scale


def bucket_of(distance: int, buckets: Buckets, causal: bool) -> int:
    """T5's bucket of `distance` = key position - query position: exact for small distances, logarithmic for large
    ones."""
    count, base = buckets.count, 0
    if not causal:
        count //= 2
        base = count if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = count // 2
    if distance < exact:
        return base + distance
    far = math.log(distance / exact) / math.log(buckets.max_distance / exact) * (count - exact)
    return base + min(exact + int(far), count - 1)


class Positions:
    """Rotary encoding of queries and keys, masks and biases, by position."""

    def __init__(self, ops: Ops, config: Config, table: Array | None = None) -> None:
        self.ops, self.config, self.table = ops, config, table
        self._angles: dict[tuple[int, Span], tuple[Array, Array]] = {}
        self._masks: dict[tuple[Span, Span, int | None], Mask] = {}
        self._biases: dict[tuple[Span, Span], Array] = {}

    def rotate(self, rope: Rope | None, x: Array, pos: Span) -> Array:
        """Queries or keys [..., T, K] rotated by their positions; unchanged if `rope` is None."""
        if rope is None:
            return x
        key = (id(rope), pos)  # id: the config keeps its ropes alive, and hashing one costs as much as rotating
        if key not in self._angles:
            self._angles[key] = rotary_angles(self.ops, rope, pos)
        return rotate(self.ops, rope, x, *self._angles[key])

    def encoder_of_keys(self, rope: Rope | None) -> Encode:
        """The function that a cache applies to rows: on write, or on read if it re-indexes positions."""

        def encode(keys: Array, values: Array, pos: Span) -> tuple[Array, Array]:
            return self.rotate(rope, keys, pos), values

        return encode

    def encoder_of_values(self, rope: Rope | None) -> Encode:
        """The same for latent attention, where the second of the two arrays is the rotary part."""

        def encode(keys: Array, values: Array, pos: Span) -> tuple[Array, Array]:
            return keys, self.rotate(rope, values, pos)

        return encode

    def mask(self, query_pos: Span, key_pos: Keys, window: int | None) -> Mask | None:
        """The causal mask; None in an encoder, which has none."""
        if not self.config.causal:
            return None
        if isinstance(key_pos, Scattered):  # each layer keeps different rows, so the mask cannot be shared
            return causal_mask(self.ops, query_pos, key_pos, window)
        key = (query_pos, key_pos, window)
        if key not in self._masks:
            self._masks[key] = causal_mask(self.ops, query_pos, key_pos, window)
        return self._masks[key]

    def bias(self, query_pos: Span, key_pos: Keys) -> Array | None:
        """The bias that positions add to the scores: [G, R, T, S], or None."""
        if self.config.alibi is None and self.config.buckets is None:
            return None
        if isinstance(key_pos, Scattered):
            return self._alibi_bias(query_pos, key_pos)
        if (query_pos, key_pos) not in self._biases:
            make = self._bucket_bias if self.config.alibi is None else self._alibi_bias
            self._biases[query_pos, key_pos] = make(query_pos, key_pos)
        return self._biases[query_pos, key_pos]

    def _alibi_bias(self, query_pos: Span, key_pos: Keys) -> Array:
        assert self.config.alibi is not None
        return alibi_bias(self.ops, self.config.alibi, self.config.n_kv_heads, query_pos, key_pos)

    def _bucket_bias(self, query_pos: Span, key_pos: Span) -> Array:
        """The bias [G, R, T, S]: the table is read once for each distance up to the largest, then indexed for every
        pair."""
        ops, xp, config = self.ops, self.ops.xp, self.config
        assert config.buckets is not None
        far = config.buckets.max_distance  # all larger distances share its bucket
        if ops.backend.holds_data:  # no pair is farther apart
            far = min(far, max(query_pos.stop - key_pos.start, key_pos.stop - query_pos.start))
            ids = ops.ids([bucket_of(d, config.buckets, config.causal) for d in range(-far, far + 1)])
        else:
            ids = ops.arange(-far, far + 1)
        query_T1 = ops.arange(query_pos.start, query_pos.stop)[:, None]
        key_1S = ops.arange(key_pos.start, key_pos.stop)[None, :]
        place_TS = ops.clamp(key_1S - query_T1, far) + far
        flat = xp.take(xp.take(self.table, ids, axis=0), xp.reshape(place_TS, (-1,)), axis=0)
        bias_HTS = xp.reshape(xp.permute_dims(flat, (1, 0)), (config.n_heads, query_pos.size, key_pos.size))
        shape = (config.n_kv_heads, config.n_heads // config.n_kv_heads, query_pos.size, key_pos.size)
        return xp.reshape(bias_HTS, shape)
