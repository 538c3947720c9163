import numpy as np

ROOM = 64


def quantise(x, axis):
    top = np.abs(x).max(axis=axis)
    scales = np.where(top > 0, top / 127, 1.0)
    codes = np.round(x / np.expand_dims(scales, axis))
    return codes.astype(np.int8), np.expand_dims(scales, axis)


def dequantise(codes, scales):
    return codes.astype(np.float64) * scales


class Int8Cache:
    """Codes in one array, rows that wait in another."""

    def __init__(self, group):
        self.group, self.n, self.whole = group, 0, 0

    def append(self, k, v):
        if not self.n:
            d = k.shape[1]
            self.codes = np.zeros((2, ROOM, d), np.int8)
            self.raw = np.zeros((2, ROOM, d), k.dtype)
            self.key_scales = np.zeros((ROOM // self.group, 1, d))
            self.value_scales = np.zeros((ROOM, 1))
        stop = self.n + len(k)
        self.raw[0, self.n : stop], self.raw[1, self.n : stop] = k, v
        self.n = stop
        for first in range(self.whole, stop // self.group * self.group, self.group):
            at = slice(first, first + self.group)
            self.codes[0, at], self.key_scales[first // self.group] = quantise(self.raw[0, at], 0)
            self.codes[1, at], self.value_scales[at] = quantise(self.raw[1, at], 1)
        self.whole = stop // self.group * self.group

    def read(self):
        scales = np.repeat(self.key_scales, self.group, axis=0)[:, 0]
        keys = dequantise(self.codes[0], scales)
        values = dequantise(self.codes[1], self.value_scales)
        keys[self.whole :], values[self.whole :] = self.raw[:, self.whole :]
        return keys[: self.n], values[: self.n]
