# expect: sinks_evicted
import numpy as np


class WindowCache:
    def __init__(self, window, sinks):
        self.window, self.sinks = window, sinks
        self.keys = self.values = None
        self.tokens = np.array([], int)  # of the rows in the cache
        self.count = 0  # tokens that came

    def update(self, keys, values):
        new = np.arange(self.count, self.count + keys.shape[1])
        self.count += len(new)
        if self.keys is not None:
            keys = np.concatenate([self.keys, keys], axis=1)
            values = np.concatenate([self.values, values], axis=1)
        tokens = np.concatenate([self.tokens, new])
        positions = np.full((len(new), len(tokens)), -1)
        for t, q in enumerate(new):
            seen = (tokens <= q) & ((tokens > q - self.window) | (tokens < self.sinks))
            positions[t, seen] = np.arange(seen.sum())
        kept = tokens > new[-1] - self.window
        self.keys, self.values, self.tokens = keys[:, kept], values[:, kept], tokens[kept]
        return keys, values, positions
