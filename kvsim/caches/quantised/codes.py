"""Numbers in 4 or 8 bits, in groups that share a scale (KIVI, arXiv:2402.02750): pure functions on arrays.

A scale is the largest |x| of its group over the largest code (127, 7, 448), a code x over the scale, rounded to the
nearest, ties to even. With zero points, codes count from 0 (to 255, 15) and from the group's smallest number. What is
read back is code · scale (+ zero point), off by at most

    max(scale / 2, top · 2⁻²⁵)    integers: the second where float16's subnormal numbers are too coarse for the scale;
                                  with zero points more by what float16 rounds off the smallest number, |min| · 2⁻¹¹
    max(|x| · 2⁻⁴, scale · 2⁻¹⁰, top · 2⁻²⁵)                                                      float8_e4m3fn

and by the rounding of float32, which all of this is worked out in whatever the model's dtype, and of that dtype, which
the result is given in. Scales and zero points are float16 and saturate at 65504, never infinite: numbers beyond
±65504 · top come back as that; with zero points, those below -65504 as that, those beyond 65504 · top above the zero
point as that. A group with a NaN comes back as NaN, a group of zeros as zeros.
"""

from typing import NamedTuple

from kvsim.arrays import Array
from kvsim.ops import Ops

LARGEST = 65504.0  # of float16
MIDDLE = 8.0  # signed four bits are stored from 1 to 15


class Code(NamedTuple):
    """What a number becomes."""

    name: str  # int8, int4 (two to a byte) or fp8 (float8_e4m3fn)
    zero: bool = False  # with zero points

    @property
    def low(self) -> float:
        """The smallest code."""
        return 0.0 if self.zero else -self.top

    @property
    def top(self) -> float:
        """The largest code."""
        return {"int8": 127.0, "int4": 7.0, "fp8": 448.0}[self.name] * (2 if self.zero else 1) + (1 if self.zero else 0)

    @property
    def per_byte(self) -> int:
        """Numbers in a byte."""
        return 2 if self.name == "int4" else 1


class Groups(NamedTuple):
    """Which numbers of [G, N, K] share a scale: blocks of so many rows and channels of one head."""

    rows: int
    channels: int

    def split(self, ops: Ops, x: Array) -> Array:
        """[G, N, K] as [G, N / rows, rows, K / channels, channels]."""
        g, n, k = x.shape
        return ops.xp.reshape(x, (g, n // self.rows, self.rows, k // self.channels, self.channels))


class Packed(NamedTuple):
    """Rows as they are kept."""

    payload: Array  # [G, N, K], or [G, N, K / 2]: a byte each
    scale: Array  # [G, N / rows, K / channels], float16
    zero: Array | None  # the same


def find_scales(ops: Ops, code: Code, x: Array) -> tuple[Array, Array | None]:
    """Scales and zero points of groups [G, A, rows, B, channels] in float32: [G, A, 1, B, 1], float16."""
    xp, zero = ops.xp, None
    if code.zero:
        zero = xp.astype(ops.clamp(xp.min(x, axis=(2, 4), keepdims=True), LARGEST), xp.float16)
        spread = xp.max(x, axis=(2, 4), keepdims=True) - xp.astype(zero, xp.float32)
        spread = xp.where(spread < 0.0, 0.0, spread)  # a zero point may be rounded up
    else:
        spread = xp.max(xp.abs(x), axis=(2, 4), keepdims=True)
    return xp.astype(ops.clamp(spread / code.top, LARGEST), xp.float16), zero


def encode(ops: Ops, code: Code, x: Array, scale: Array, zero: Array | None) -> Array:
    """The codes of groups x, still in float32. NaN becomes the largest: its scale is NaN too, and is read back."""
    xp = ops.xp
    step = xp.astype(scale, xp.float32)
    step = xp.where(step == 0.0, 1.0, step)  # all that is left of such a group rounds to 0
    from_zero = x if zero is None else x - xp.astype(zero, xp.float32)
    q = from_zero / step
    if code.name != "fp8":
        q = xp.round(q)
    q = xp.where(q < code.top, q, code.top)
    return xp.where(q > code.low, q, code.low)


def pack(ops: Ops, code: Code, q: Array) -> Array:
    """Codes [G, N, K] as bytes. Of int4, element 2k is the low half of byte k and element 2k + 1 the high one."""
    xp = ops.xp
    if code.name == "fp8":
        return xp.astype(q, xp.float8_e4m3fn)
    if code.name == "int8":
        return xp.astype(q, xp.uint8 if code.zero else xp.int8)
    nibbles = xp.astype(q if code.zero else q + MIDDLE, xp.uint8)
    return nibbles[..., ::2] + nibbles[..., 1::2] * 16


def unpack(ops: Ops, code: Code, payload: Array) -> Array:
    """The codes again, [G, N, K] in float32."""
    xp = ops.xp
    if code.name != "int4":
        return xp.astype(payload, xp.float32)
    halves = [xp.bitwise_and(payload, 15), xp.bitwise_right_shift(payload, 4)]
    g, n, k = payload.shape
    q = xp.astype(xp.reshape(xp.stack(halves, axis=-1), (g, n, 2 * k)), xp.float32)
    return q if code.zero else q - MIDDLE


def quantise(ops: Ops, code: Code, groups: Groups, x: Array) -> Packed:
    """Rows [G, N, K] in fewer bits; N and K are multiples of the group's sizes."""
    xp = ops.xp
    wide = ops.clamp(xp.astype(x, ops.wide_dtype, copy=False), 2.0**127)  # float64 may be beyond float32
    x_5 = groups.split(ops, xp.astype(wide, xp.float32, copy=False))
    scale, zero = find_scales(ops, code, x_5)
    q = encode(ops, code, x_5, scale, zero)
    flat = (x_5.shape[0], x_5.shape[1], x_5.shape[3])
    payload = pack(ops, code, xp.reshape(q, x.shape))
    return Packed(payload, xp.reshape(scale, flat), None if zero is None else xp.reshape(zero, flat))


def dequantise(ops: Ops, code: Code, groups: Groups, packed: Packed) -> Array:
    """What the rows are read as: [G, N, K] in the model's dtype."""
    xp = ops.xp
    q_5 = groups.split(ops, unpack(ops, code, packed.payload))
    # A product of at most 8 and 11 significant bits: exact in float32.
    x_5 = q_5 * xp.astype(packed.scale[:, :, None, :, None], xp.float32)
    if packed.zero is not None:
        x_5 = x_5 + xp.astype(packed.zero[:, :, None, :, None], xp.float32)
    if ops.dtype_name == "float16":  # a scale that was rounded up may lead beyond it
        x_5 = ops.clamp(x_5, LARGEST)
    g, a, rows, b, channels = x_5.shape
    return xp.astype(xp.reshape(x_5, (g, a * rows, b * channels)), ops.dtype, copy=False)


def follow(ops: Ops, packed: Packed, new: Packed) -> Packed:
    """The rows of `packed`, byte for byte, and those of `new` after them."""
    xp = ops.xp
    zero = None
    if packed.zero is not None and new.zero is not None:
        zero = xp.concat([packed.zero, new.zero], axis=1)
    payload = xp.concat([packed.payload, new.payload], axis=1)
    return Packed(payload, xp.concat([packed.scale, new.scale], axis=1), zero)
