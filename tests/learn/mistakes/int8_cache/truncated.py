# expect: quantised_truncates
import numpy as np


def quantise(x, axis):
    scales = np.abs(x).max(axis=axis, keepdims=True) / 127
    codes = x / np.where(scales == 0, 1, scales)
    return np.clip(codes, -127, 127).astype(np.int8), scales.astype(np.float16)


def dequantise(codes, scales):
    return codes * scales.astype(np.float32)


class Int8Cache:
    def __init__(self, group):
        self.group = group
        self.packed = ([], [])  # of keys and of values: whole groups
        self.waiting = [None, None]

    def append(self, k, v):
        for axis, new in ((0, k), (1, v)):
            rows = new if self.waiting[axis] is None else np.concatenate([self.waiting[axis], new])
            while len(rows) >= self.group:
                self.packed[axis].append(quantise(rows[: self.group], axis))
                rows = rows[self.group :]
            self.waiting[axis] = rows

    def read(self):
        return tuple(
            np.concatenate([*(dequantise(*one) for one in self.packed[axis]), self.waiting[axis]]) for axis in (0, 1)
        )
