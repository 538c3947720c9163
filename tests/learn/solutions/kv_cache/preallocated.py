import numpy as np


class KVCache:
    def __init__(self):
        self.keys, self.values, self.length = {}, {}, {}

    def update(self, layer, keys, values):
        b, h, t, d = keys.shape
        n = self.length.get(layer, 0)
        if layer not in self.keys:
            self.keys[layer] = np.zeros((b, h, 64, d), keys.dtype)
            self.values[layer] = np.zeros((b, h, 64, d), values.dtype)
        self.keys[layer][:, :, n : n + t] = keys
        self.values[layer][:, :, n : n + t] = values
        self.length[layer] = n + t

    def get(self, layer):
        n = self.length[layer]
        return self.keys[layer][:, :, :n], self.values[layer][:, :, :n]


def keys_and_values(cache, layer, x, seen, project):
    cache.update(layer, *project(layer, x[:, seen:]))
    return cache.get(layer)
