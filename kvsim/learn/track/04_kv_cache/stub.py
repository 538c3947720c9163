"""04 kv_cache. The task: kvsim learn show 04. Save, and run kvsim learn run 04."""

import numpy as np  # noqa: F401


class KVCache:
    """The keys and values of every layer, for one batch of texts. Empty at first."""

    def update(self, layer, keys, values):
        """Add new rows of a layer: keys and values [B, H, T, D], T new tokens."""
        raise NotImplementedError("write update")

    def get(self, layer):
        """All rows of a layer so far: keys and values [B, H, S, D], oldest first."""
        raise NotImplementedError("write get")


def keys_and_values(cache, layer, x, seen, project):
    """Keys and values [B, H, S, D] of all S tokens in this layer.

    x [B, S, C]: hidden states of all tokens so far; the first `seen` of them went through this function before.
    project(layer, rows) gives keys and values [B, H, T, D] of hidden states rows [B, T, C].
    """
    raise NotImplementedError("write keys_and_values")
