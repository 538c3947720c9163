"""11 window_and_sinks. The task: kvsim learn show 11. Save, and run kvsim learn run 11."""

import numpy as np  # noqa: F401


class WindowCache:
    """The cache of one layer, empty at first. A query sees the last `window` tokens, its own included, and the first
    `sinks` tokens of the text. Between two calls it holds at most window + sinks rows."""

    def __init__(self, window, sinks):
        raise NotImplementedError("write __init__")

    def update(self, keys, values):
        """T new tokens: keys, values [H, T, D]. Returns three arrays:

        keys, values [H, R, D]: R rows, those that were in the cache and the new ones, in any order;
        positions [T, R]: the position inside the cache at which query t sees row r, -1 where it does not see it.
        """
        raise NotImplementedError("write update")
