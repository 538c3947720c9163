"""Rotary position embedding (arXiv:2104.09864) and the scaling of its frequencies for contexts longer than in training.
Frequencies are a few dozen numbers: plain Python floats.
"""

import math
from functools import lru_cache

from kvsim.arrays import Array
from kvsim.config import BY_LENGTH, Rope
from kvsim.ops import Ops


def depends_on_length(rope: Rope) -> bool:
    """Do the frequencies change with the current length, so that cached keys differ from recomputed ones?"""
    return rope.kind in BY_LENGTH


def _plain(theta: float, size: int) -> list[float]:
    return [1.0 / theta ** (2 * j / size) for j in range(size // 2)]


def _dynamic(rope: Rope, length: int) -> list[float]:
    """Dynamic NTK: the base grows with the length beyond the original context."""
    length = max(length, rope.original)
    stretch = rope.factor * length / rope.original - (rope.factor - 1)
    return _plain(rope.theta * stretch ** (rope.size / (rope.size - 2)), rope.size)


def _llama3(rope: Rope) -> list[float]:
    """Low frequencies are divided by the factor, high ones kept, those between interpolated (Llama 3.1)."""

    def slowed(frequency: float) -> float:
        turns = rope.original * frequency / (2 * math.pi)  # rotations within the original context
        kept = min(1.0, max(0.0, (turns - rope.low) / (rope.high - rope.low)))
        return kept * frequency + (1 - kept) * frequency / rope.factor

    return [slowed(frequency) for frequency in _plain(rope.theta, rope.size)]


def _yarn(rope: Rope) -> list[float]:
    """YaRN (arXiv:2309.00071): a ramp from kept to divided frequencies."""

    def place(turns: float) -> float:  # the pair with that many rotations within the original context
        return rope.size * math.log(rope.original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    first, last = place(rope.fast), place(rope.slow)
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.size - 1)
    if first == last:
        last += 0.001
    slow = [min(1.0, max(0.0, (j - first) / (last - first))) for j in range(rope.size // 2)]
    plain = _plain(rope.theta, rope.size)
    return [f / rope.factor * s + f * (1 - s) for f, s in zip(plain, slow, strict=True)]


@lru_cache(maxsize=256)
def frequencies(rope: Rope, length: int) -> tuple[float, ...]:
    """Radians per position of each of the size/2 pairs, for a text of `length` tokens."""
    plain = _plain(rope.theta, rope.size)
    if rope.kind == "linear":
        plain = [f / rope.factor for f in plain]
    elif rope.kind == "dynamic":
        plain = _dynamic(rope, length)
    elif rope.kind == "llama3":
        plain = _llama3(rope)
    elif rope.kind == "yarn":
        plain = _yarn(rope)
    elif rope.kind == "longrope":
        divisors = rope.long if length > rope.original else rope.short
        plain = [f / d for f, d in zip(plain, divisors, strict=True)]
    return tuple(plain)


def rotate(ops: Ops, rope: Rope, x: Array, cos_TJ: Array, sin_TJ: Array) -> Array:
    """x [..., T, K] with each pair of its first `rope.size` elements rotated by its angle."""
    if rope.size == x.shape[-1]:
        return ops.rotate(rope.pairs, x, cos_TJ, sin_TJ)
    rotated = ops.rotate(rope.pairs, x[..., : rope.size], cos_TJ, sin_TJ)
    return ops.xp.concat([rotated, x[..., rope.size :]], axis=-1)
