"""Quantisation one number at a time, in plain Python: what `kvsim.caches.quantised.codes` is held against."""

import struct
from itertools import product

import numpy as np

TOPS = {"int8": 127, "int4": 7, "fp8": 448}
ZERO_TOPS = {"int8": 255, "int4": 15}
# float8_e4m3fn by its definition (arXiv:2209.05433): the values of bytes 0 to 126; 127 is NaN.
E4M3 = [2.0**-6 * m / 8 if e == 0 else 2.0 ** (e - 7) * (1 + m / 8) for e, m in product(range(16), range(8))][:-1]


def rounded(kind, x):
    """x rounded to float16 ("e") or float32 ("f")."""
    return struct.unpack(kind, struct.pack(kind, x))[0]


def held(x, limit):
    return max(-limit, min(limit, x))


def nearest_e4m3(x):
    """The byte of the nearest float8_e4m3fn; of two as near, the even one."""
    best = min(range(len(E4M3)), key=lambda i: (abs(E4M3[i] - abs(x)), i % 2))
    return best + (128 if str(x).startswith("-") else 0)


def quantise_group(name, zero, xs):
    """Stored codes, scale, zero point (or None), and what is read back: of numbers that share a scale."""
    xs = [rounded("f", x) for x in xs]
    low = rounded("e", held(min(xs), 65504.0)) if zero else 0.0
    top = ZERO_TOPS[name] if zero else TOPS[name]
    spread = rounded("f", max(xs) - low) if zero else max(map(abs, xs))
    scale = rounded("e", held(rounded("f", max(spread, 0.0) / top), 65504.0))
    stored, read = [], []
    for x in xs:
        quotient = rounded("f", rounded("f", x - low) / scale) if scale else rounded("f", x - low) * 1.0
        if name == "fp8":
            byte = nearest_e4m3(held(quotient, 448.0))
            stored.append(byte)
            code = E4M3[byte % 128] * (-1 if byte > 127 else 1)
        else:
            code = max(0 if zero else -top, min(top, round(quotient)))
            stored.append(code + 8 if name == "int4" and not zero else code)
        read.append(rounded("f", code * scale + low))
    return stored, scale, (low if zero else None), read


def quantise_rows(name, zero, x, rows, channels):
    """Rows x [G, N, K] in groups of so many rows and channels: bytes [G, N, K or K / 2] as uint8, scales and zero
    points [G, N / rows, K / channels], and what is read back [G, N, K] in float32."""
    heads, n, k = x.shape
    codes = np.zeros(x.shape, int)
    read = np.zeros(x.shape, np.float32)
    scales = np.zeros((heads, n // rows, k // channels), np.float16)
    zeros = np.zeros_like(scales)
    for g, a, b in product(*map(range, scales.shape)):
        places = [(g, a * rows + i, b * channels + j) for i in range(rows) for j in range(channels)]
        stored, scale, low, back = quantise_group(name, zero, [float(x[place]) for place in places])
        scales[g, a, b] = scale
        zeros[g, a, b] = low or 0.0
        for place, code, number in zip(places, stored, back, strict=True):
            codes[place], read[place] = code, number
    if name == "int4":
        codes = codes[:, :, 0::2] | codes[:, :, 1::2] << 4
    return (codes & 255).astype(np.uint8), scales, (zeros if zero else None), read
