# expect: layers_share_one_cache
# course: TrenTorch#141
import numpy as np


class KVCache:
    def __init__(self):
        self.rows = {}

    def update(self, layer, keys, values):
        if 0 in self.rows:
            old_keys, old_values = self.rows[0]
            keys = np.concatenate([old_keys, keys], axis=2)
            values = np.concatenate([old_values, values], axis=2)
        self.rows[0] = keys, values

    def get(self, layer):
        return self.rows[0]


def keys_and_values(cache, layer, x, seen, project):
    keys, values = project(layer, x[:, seen:])
    cache.update(layer, keys, values)
    return cache.get(layer)
