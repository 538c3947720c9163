"""12 int8_cache. The task: kvsim learn show 12. Save, and run kvsim learn run 12."""

import numpy as np  # noqa: F401


def quantise(x, axis):
    """x [tokens, channels] as codes and scales: two arrays.

    axis 0: each channel has a scale, shared by all tokens of x. axis 1: each token has one, shared by its channels.
    codes: of dtype int8, -127 to 127, in the shape of x. scales: [1, channels] for axis 0, [tokens, 1] for axis 1.
    """
    raise NotImplementedError("write quantise")


def dequantise(codes, scales):
    """The numbers [tokens, channels] that these codes and scales stand for."""
    raise NotImplementedError("write dequantise")


class Int8Cache:
    """The keys and values of one head, quantised in groups of `group` tokens. Empty at first."""

    def __init__(self, group):
        self.group = group

    def append(self, k, v):
        """Add the keys and values [T, D] of T new tokens; then quantise every group that has become whole."""
        raise NotImplementedError("write append")

    def read(self):
        """The keys and the values of all tokens so far, [S, D] each, oldest first."""
        raise NotImplementedError("write read")
