# expect: counted_for_each_layer
import numpy as np


class RotaryCache:
    def __init__(self, layers, theta):
        self.theta = theta
        self.rows = [None] * layers
        self.seen = 0

    def rotate(self, x, positions):
        half = x.shape[-1] // 2
        angle = positions[:, None] * self.theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def update(self, layer, q, k, v):
        start = self.seen
        positions = start + np.arange(q.shape[1])
        q, k = self.rotate(q, positions), self.rotate(k, positions)
        self.seen += q.shape[1]
        if self.rows[layer] is not None:
            k = np.concatenate([self.rows[layer][0], k], axis=1)
            v = np.concatenate([self.rows[layer][1], v], axis=1)
        self.rows[layer] = k, v
        return q, k, v
