import numpy as np


def quantise(x, axis):
    lines = x.T if axis == 0 else x
    codes, scales = [], []
    for line in lines:
        scale = max(abs(number) for number in line) / 127
        codes.append([round(number / scale) if scale else 0 for number in line.tolist()])
        scales.append(scale)
    codes, scales = np.array(codes, np.int8), np.array(scales)
    return (codes.T, scales[None, :]) if axis == 0 else (codes, scales[:, None])


def dequantise(codes, scales):
    return scales * codes


class Int8Cache:
    """Every group is one entry: whole, or the last one, which is not."""

    def __init__(self, group):
        self.group, self.groups = group, []

    def append(self, k, v):
        for row in zip(k, v, strict=True):
            if not self.groups or isinstance(self.groups[-1], tuple):
                self.groups.append([])
            self.groups[-1].append(row)
            if len(self.groups[-1]) == self.group:
                keys, values = (np.stack(rows) for rows in zip(*self.groups[-1], strict=True))
                self.groups[-1] = quantise(keys, 0), quantise(values, 1)

    def read(self):
        keys, values = [], []
        for one in self.groups:
            if isinstance(one, tuple):
                keys.extend(dequantise(*one[0]))
                values.extend(dequantise(*one[1]))
            else:
                keys.extend(k for k, _ in one)
                values.extend(v for _, v in one)
        return np.stack(keys), np.stack(values)
