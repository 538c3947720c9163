# expect: concat_wrong_axis
import numpy as np


class KVCache:
    def __init__(self):
        self.rows = {}

    def update(self, layer, keys, values):
        if layer in self.rows:
            old_keys, old_values = self.rows[layer]
            b, h, n, d = old_keys.shape
            shape = (b, h, n + keys.shape[2], d)
            keys = np.concatenate([old_keys.reshape(b, -1, d), keys.reshape(b, -1, d)], axis=1).reshape(shape)
            values = np.concatenate([old_values.reshape(b, -1, d), values.reshape(b, -1, d)], axis=1).reshape(shape)
        self.rows[layer] = keys, values

    def get(self, layer):
        return self.rows[layer]


def keys_and_values(cache, layer, x, seen, project):
    keys, values = project(layer, x[:, seen:])
    cache.update(layer, keys, values)
    return cache.get(layer)
