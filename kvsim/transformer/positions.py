"""What depends on positions alone: rotary angles and the causal mask.

A `Positions` lives for one forward pass, so that layers which ask for the same span share the work.
"""

from typing import NamedTuple

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.spans import Span, admitted_pairs


class Mask(NamedTuple):
    """Who may look at whom: [T, S] booleans, and the same in integers (pairs admitted, of all)."""

    allowed: Array
    admitted: tuple[int, int]


def rotary_angles(ops: Ops, config: Config, pos: Span) -> tuple[Array, Array]:
    """cos and sin of position · theta^(-2j/K) (arXiv:2104.09864), each [T, J], in the model's dtype.

    The angles are computed in float64: in float32 they lose a digit for every digit of the position.
    """
    xp = ops.xp
    j_J = xp.astype(ops.arange(0, config.d_head // 2), xp.float64)
    frequency_J = config.rope_theta ** (-2.0 * j_J / config.d_head)
    pos_T = xp.astype(ops.arange(pos.start, pos.stop), xp.float64)
    angle_TJ = pos_T[:, None] * frequency_J[None, :]
    return xp.astype(xp.cos(angle_TJ), ops.dtype), xp.astype(xp.sin(angle_TJ), ops.dtype)


def rotate(ops: Ops, x: Array, cos_TJ: Array, sin_TJ: Array) -> Array:
    """Turn each pair (x[..., j], x[..., J + j]) of x [..., T, K] by its angle: Llama's halves."""
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    return ops.xp.concat([left * cos_TJ - right * sin_TJ, right * cos_TJ + left * sin_TJ], axis=-1)


def causal_mask(ops: Ops, query_pos: Span, key_pos: Span) -> Mask:
    """A query sees the keys at its own position and before: positions are compared, never indices."""
    query_T = ops.arange(query_pos.start, query_pos.stop)
    key_S = ops.arange(key_pos.start, key_pos.stop)
    allowed_TS = key_S[None, :] <= query_T[:, None]
    return Mask(allowed_TS, (admitted_pairs(query_pos, key_pos), query_pos.size * key_pos.size))


class Positions:
    """Encodes queries and keys, and masks scores, by position."""

    def __init__(self, ops: Ops, config: Config) -> None:
        self.ops, self.config = ops, config
        self._angles: dict[Span, tuple[Array, Array]] = {}
        self._masks: dict[tuple[Span, Span], Mask] = {}

    def encode(self, x: Array, pos: Span) -> Array:
        """Queries or keys [..., T, K] with their positions worked in, where that is where they go."""
        if self.config.positions != "rope":
            return x
        if pos not in self._angles:
            self._angles[pos] = rotary_angles(self.ops, self.config, pos)
        return rotate(self.ops, x, *self._angles[pos])

    def encode_rows(self, keys: Array, values: Array, pos: Span) -> tuple[Array, Array]:
        """What a cache calls on the rows it is given (or, where it re-indexes, on those it reads)."""
        return self.encode(keys, pos), values

    def mask(self, query_pos: Span, key_pos: Span) -> Mask:
        key = (query_pos, key_pos)
        if key not in self._masks:
            self._masks[key] = causal_mask(self.ops, query_pos, key_pos)
        return self._masks[key]
