"""Exercise 1: a KV cache for a small decoder. The text is in kv_cache.md; the check is

kvsim verify examples/exercises/kv_cache.py:KVCache
"""

import numpy as np  # noqa: F401 (you will want it)


class KVCache:
    """The rows of every layer, for one text."""

    def __init__(self):
        pass  # what does an empty cache contain?

    def update(self, layer, keys, values):
        """Add the new rows of a layer, keys and values [G, T, K] each (heads, new tokens, head size; keys are already
        rotated), and return all rows of that layer so far, [G, S, K] each, oldest first."""
        raise NotImplementedError("write update")
