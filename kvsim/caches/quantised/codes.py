"""Group-wise quantisation to 4 or 8 bits (KIVI, arXiv:2402.02750): pure functions on arrays.

The scale of a group is its largest |x| / the largest code (127, 7, 448). A code is x / scale, rounded to the nearest,
ties to even. With zero points, codes are unsigned (0 to 255 or 15) and measured from the group's smallest number. The
dequantised number is code · scale (+ zero point). Its error is at most

    max(scale / 2, top · 2⁻²⁵)    integers: the second where the scale is a subnormal float16; with zero points, plus
                                  the float16 rounding of the smallest number, |min| · 2⁻¹¹
    max(|x| · 2⁻⁴, scale · 2⁻¹⁰, top · 2⁻²⁵)                                                      float8_e4m3fn

plus the rounding of float32, in which everything is computed, and of the model's dtype, which the result has.
Scales and zero points are float16 and saturate at 65504 instead of overflowing: numbers beyond ±65504 · top become that
limit; with zero points, numbers below -65504 become -65504 and those more than 65504 · top above the zero point become
that limit. A group with a NaN is read back as NaN, a group of zeros as zeros.
"""

from typing import Any, NamedTuple

from kvsim.arrays import Array
from kvsim.ops import Ops

LARGEST = 65504.0  # of float16
MIDDLE = 8.0  # added to signed 4-bit codes, which are stored as 1 to 15


class Code(NamedTuple):
    """A number format."""

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
        """Elements stored in one byte."""
        return 2 if self.name == "int4" else 1


class Groups(NamedTuple):
    """Groups that share a scale: blocks of `rows` rows and `channels` channels of one head, in arrays [G, N, K]."""

    rows: int
    channels: int

    def split(self, ops: Ops, x: Array) -> Array:
        """[G, N, K] as [G, N / rows, rows, K / channels, channels]."""
        g, n, k = x.shape
        return ops.xp.reshape(x, (g, n // self.rows, self.rows, k // self.channels, self.channels))


class Packed(NamedTuple):
    """Quantised rows."""

    payload: Array  # [G, N, K], or [G, N, K / 2] for int4; one byte each
    scale: Array  # [G, N / rows, K / channels], float16
    zero: Array | None  # zero points, of the same shape and dtype


def find_scales(ops: Ops, code: Code, x: Array) -> tuple[Array, Array | None]:
    """Scales and zero points, [G, A, 1, B, 1] in float16, of groups x [G, A, rows, B, channels] in float32."""
    xp, zero = ops.xp, None
    if code.zero:
        zero = xp.astype(ops.clamp(xp.min(x, axis=(2, 4), keepdims=True), LARGEST), xp.float16)
        spread = xp.max(x, axis=(2, 4), keepdims=True) - xp.astype(zero, xp.float32)
        spread = xp.where(spread < 0.0, 0.0, spread)  # negative if the zero point was rounded up
    else:
        spread = xp.max(xp.abs(x), axis=(2, 4), keepdims=True)
    return xp.astype(ops.clamp(spread / code.top, LARGEST), xp.float16), zero


def encode(ops: Ops, code: Code, x: Array, scale: Array, zero: Array | None) -> Array:
    """The codes of groups x, as float32. NaN becomes the largest code; it is read back as NaN because its scale is."""
    xp = ops.xp
    step = xp.astype(scale, xp.float32)
    step = xp.where(step == 0.0, 1.0, step)  # the numbers of such a group all round to code 0
    from_zero = x if zero is None else x - xp.astype(zero, xp.float32)
    q = from_zero / step
    if code.name != "fp8":
        q = xp.round(q)
    q = xp.where(q < code.top, q, code.top)
    return xp.where(q > code.low, q, code.low)


def pack(ops: Ops, code: Code, q: Array) -> Array:
    """Codes [G, N, K] as bytes. int4: element 2k is in the low half of byte k, element 2k + 1 in the high half."""
    xp = ops.xp
    if code.name == "fp8":
        return xp.astype(q, xp.float8_e4m3fn)
    if code.name == "int8":
        return xp.astype(q, xp.uint8 if code.zero else xp.int8)
    nibbles = xp.astype(q if code.zero else q + MIDDLE, xp.uint8)
    return nibbles[..., ::2] + nibbles[..., 1::2] * 16


def are_codes(code: Code, payload: Any) -> bool:
    """Can `pack` return this payload? Given as a NumPy array, of fp8 as float16."""
    if code.name == "fp8":  # four significant bits, steps of 2⁻⁹ at least
        x = abs(payload.astype("float32"))
        return bool(((x <= code.top) & (payload.view("uint16") % 128 == 0) & (x * 512 % 1 == 0)).all())
    if code.zero:
        return True
    if code.name == "int4":
        return bool(((payload % 16 > 0) & (payload > 15)).all())
    return bool((payload >= code.low).all())


def unpack(ops: Ops, code: Code, payload: Array) -> Array:
    """The codes of a payload, [G, N, K] in float32."""
    xp = ops.xp
    if code.name != "int4":
        return xp.astype(payload, xp.float32)
    halves = [xp.bitwise_and(payload, 15), xp.bitwise_right_shift(payload, 4)]
    g, n, k = payload.shape
    q = xp.astype(xp.reshape(xp.stack(halves, axis=-1), (g, n, 2 * k)), xp.float32)
    return q if code.zero else q - MIDDLE


def quantise(ops: Ops, code: Code, groups: Groups, x: Array) -> Packed:
    """Rows x [G, N, K], quantised; N and K are multiples of the group's sizes."""
    xp = ops.xp
    wide = ops.clamp(xp.astype(x, ops.wide_dtype, copy=False), 2.0**127)  # float64 may exceed the range of float32
    x_5 = groups.split(ops, xp.astype(wide, xp.float32, copy=False))
    scale, zero = find_scales(ops, code, x_5)
    q = encode(ops, code, x_5, scale, zero)
    flat = (x_5.shape[0], x_5.shape[1], x_5.shape[3])
    payload = pack(ops, code, xp.reshape(q, x.shape))
    return Packed(payload, xp.reshape(scale, flat), None if zero is None else xp.reshape(zero, flat))


def dequantise(ops: Ops, code: Code, groups: Groups, packed: Packed) -> Array:
    """The rows, dequantised: [G, N, K] in the model's dtype."""
    xp = ops.xp
    q_5 = groups.split(ops, unpack(ops, code, packed.payload))
    # Factors of at most 8 and 11 significant bits: the product is exact in float32.
    x_5 = q_5 * xp.astype(packed.scale[:, :, None, :, None], xp.float32)
    if packed.zero is not None:
        x_5 = x_5 + xp.astype(packed.zero[:, :, None, :, None], xp.float32)
    if ops.dtype_name == "float16":  # a scale that was rounded up can exceed the range
        x_5 = ops.clamp(x_5, LARGEST)
    g, a, rows, b, channels = x_5.shape
    return xp.astype(xp.reshape(x_5, (g, a * rows, b * channels)), ops.dtype, copy=False)


def append(ops: Ops, packed: Packed, new: Packed) -> Packed:
    """The rows of `packed`, unchanged, followed by those of `new`."""
    xp = ops.xp
    zero = None
    if packed.zero is not None and new.zero is not None:
        zero = xp.concat([packed.zero, new.zero], axis=1)
    payload = xp.concat([packed.payload, new.payload], axis=1)
    return Packed(payload, xp.concat([packed.scale, new.scale], axis=1), zero)
