import numpy as np


class RotaryCache:
    """Keys are stored unrotated, and all of them are rotated when they are read."""

    def __init__(self, layers, theta):
        self.theta = theta
        self.k, self.v = {}, {}

    def rotate(self, x, start):
        half = x.shape[-1] // 2
        angle = np.outer(np.arange(start, start + x.shape[1]), 1.0 / self.theta ** (np.arange(half) / half))
        z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
        return np.concatenate([z.real, z.imag], axis=-1).astype(x.dtype)

    def update(self, layer, q, k, v):
        self.k.setdefault(layer, []).extend(k.transpose(1, 0, 2))
        self.v.setdefault(layer, []).extend(v.transpose(1, 0, 2))
        keys, values = np.stack(self.k[layer], axis=1), np.stack(self.v[layer], axis=1)
        return self.rotate(q, keys.shape[1] - q.shape[1]), self.rotate(keys, 0), values
