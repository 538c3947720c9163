# expect: stored_again
import numpy as np


class KVCache:
    def __init__(self):
        self.rows = {}

    def update(self, layer, keys, values):
        if layer in self.rows:
            old_keys, old_values = self.rows[layer]
            keys = np.concatenate([old_keys, keys], axis=2)
            values = np.concatenate([old_values, values], axis=2)
        self.rows[layer] = keys, values

    def get(self, layer):
        return self.rows[layer]


def keys_and_values(cache, layer, x, seen, project):
    keys, values = project(layer, x)
    cache.update(layer, keys, values)
    return cache.get(layer)
