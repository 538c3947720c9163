"""Rotary position embedding (arXiv:2104.09864) and the ways in which its frequencies are changed for
contexts longer than a model was trained on. Frequencies are a few dozen numbers: plain Python, float64.
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
    """Dynamic NTK: beyond the original context the base grows with the length."""
    length = max(length, rope.original)
    stretch = rope.factor * length / rope.original - (rope.factor - 1)
    return _plain(rope.theta * stretch ** (rope.size / (rope.size - 2)), rope.size)


def _llama3(rope: Rope) -> list[float]:
    """Long waves are slowed by the factor, short ones kept, those between mixed (Llama 3.1)."""

    def slowed(frequency: float) -> float:
        turns = rope.original * frequency / (2 * math.pi)  # within the original context
        kept = min(1.0, max(0.0, (turns - rope.low) / (rope.high - rope.low)))
        return kept * frequency + (1 - kept) * frequency / rope.factor

    return [slowed(frequency) for frequency in _plain(rope.theta, rope.size)]


def _yarn(rope: Rope) -> list[float]:
    """YaRN (arXiv:2309.00071): a ramp from frequencies kept to frequencies slowed."""

    def place(turns: float) -> float:  # the pair that turns so often within the original context
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
    """Radians a position, one for each of the size/2 pairs, when the text has `length` tokens."""
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
    """Turn each pair of the first `rope.size` elements of x [..., T, K] by its angle."""
    if rope.size == x.shape[-1]:
        return ops.turn(rope.pairs, x, cos_TJ, sin_TJ)
    turned = ops.turn(rope.pairs, x[..., : rope.size], cos_TJ, sin_TJ)
    return ops.xp.concat([turned, x[..., rope.size :]], axis=-1)
