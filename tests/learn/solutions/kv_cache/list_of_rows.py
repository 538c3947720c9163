import numpy as np


class KVCache:
    """A list of rows [B, H, D] for each layer."""

    def __init__(self):
        self.keys, self.values = {}, {}

    def update(self, layer, keys, values):
        for t in range(keys.shape[2]):
            self.keys.setdefault(layer, []).append(keys[:, :, t])
            self.values.setdefault(layer, []).append(values[:, :, t])

    def get(self, layer):
        return np.stack(self.keys[layer], axis=2), np.stack(self.values[layer], axis=2)


def keys_and_values(cache, layer, x, seen, project):
    for t in range(seen, x.shape[1]):  # one token at a time
        cache.update(layer, *project(layer, x[:, t : t + 1]))
    keys, values = cache.get(layer)
    return [keys, values]
