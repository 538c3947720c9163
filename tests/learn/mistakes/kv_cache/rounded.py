# expect: cache_rounded
import numpy as np


class KVCache:
    def __init__(self):
        self.rows = {}

    def update(self, layer, keys, values):
        if layer in self.rows:
            old_keys, old_values = self.rows[layer]
            keys = np.concatenate([old_keys, keys], axis=2)
            values = np.concatenate([old_values, values], axis=2)
        self.rows[layer] = keys.astype(np.float16), values.astype(np.float16)

    def get(self, layer):
        return tuple(x.astype(np.float64) for x in self.rows[layer])


def keys_and_values(cache, layer, x, seen, project):
    keys, values = project(layer, x[:, seen:])
    cache.update(layer, keys, values)
    return cache.get(layer)
