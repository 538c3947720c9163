"""A KV cache with one mistake, which the oracle diagnoses: kvsim verify examples/wrong_cache.py:WrongCache"""

import numpy as np


class WrongCache:
    """The keys and values of each layer, for one text."""

    def __init__(self):
        self.rows = {}

    def update(self, layer, keys, values):
        """All keys and values of the layer so far, [G, S, K] each; the new ones, [G, T, K], come last."""
        if layer not in self.rows:
            self.rows[layer] = keys, values
            return keys, values
        old_keys, old_values = self.rows[layer]
        # The mistake: the new rows are returned with the old ones and not stored.
        return np.concatenate([old_keys, keys], axis=1), np.concatenate([old_values, values], axis=1)
