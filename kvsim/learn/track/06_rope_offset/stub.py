"""06 rope_offset. The task: kvsim learn show 06. Save, and run kvsim learn run 06."""

import numpy as np  # noqa: F401


class RotaryCache:
    """Keys and values of every layer, with rotary positions."""

    def __init__(self, layers, theta):
        self.layers, self.theta = layers, theta

    def update(self, layer, q, k, v):
        """q, k, v [H, T, D]: T new tokens, not rotated. Returns the rotated queries [H, T, D], and the rotated keys and
        the values of all tokens so far, [H, S, D] each, oldest first."""
        raise NotImplementedError("write update")
