import numpy as np


class WindowCache:
    """Slots 0 .. sinks - 1 hold the sinks; behind them, a ring of `window` slots."""

    def __init__(self, window, sinks):
        self.window, self.sinks, self.count = window, sinks, 0
        self.token_in = np.full(window + sinks, -1)
        self.keys = self.values = None

    def slot(self, token):
        return token if token < self.sinks else self.sinks + token % self.window

    def update(self, keys, values):
        heads, new, size = keys.shape
        if self.keys is None:
            self.keys = np.zeros((heads, self.window + self.sinks, size), keys.dtype)
            self.values = np.zeros_like(self.keys)
        all_keys = np.concatenate([self.keys, keys], axis=1)
        all_values = np.concatenate([self.values, values], axis=1)
        tokens = np.concatenate([self.token_in, np.arange(self.count, self.count + new)])
        positions = []
        for q in range(self.count, self.count + new):
            seen = [x for x in tokens if 0 <= x <= q and (x > q - self.window or x < self.sinks)]
            positions.append([sorted(seen).index(x) if x in seen else -1 for x in tokens])
        for t in range(new):
            at = self.slot(self.count + t)
            self.keys[:, at], self.values[:, at] = keys[:, t], values[:, t]
            self.token_in[at] = self.count + t
        self.count += new
        return all_keys, all_values, positions
