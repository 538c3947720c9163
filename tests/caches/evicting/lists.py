"""A layer whose rows are lists, one for each head: what those that hold arrays are held against, in any model."""

import numpy as np

from kvsim.caches.base import LayerCache, State
from kvsim.spans import Scattered, View
from tests.caches.plain import Row


class ListLayer(LayerCache):
    """The same policies, on lists of rows, for any model: `update` stacks them, `commit` reads what was observed."""

    def __init__(self, like, policy, budget):
        super().__init__(like.ops, like.shape, None)
        self.policy, self.budget = policy, budget
        self.held = [[] for _ in range(self.shape.n_heads)]
        self.stop, self.observed = 0, []

    def update(self, keys, values, pos, encode):
        bare, (keys, values) = keys, encode(keys, values, pos)
        self.stop, self.observed = pos.stop, []
        old = [[row for row in rows if row.position < pos.start] for rows in self.held]
        new = [
            [Row(p, bare[g, i], keys[g, i], values[g, i]) for i, p in enumerate(range(*pos))] for g in range(len(old))
        ]
        self.held = [rows + more for rows, more in zip(old, new, strict=True)]
        key_pos = Scattered(np.array([[row.position for row in rows] for rows in old], dtype=np.int64), pos)
        observer = lambda _, probs: self.observed.append(probs.copy())  # noqa: E731
        return (View(self.keys, self.values, key_pos, pos, observer=observer),)

    def commit(self, pos):
        (probs,) = self.observed
        for g, rows in enumerate(self.held):
            mine = probs[g : g + 1] if len(self.held) > 1 else probs
            given = [
                {row.position: float(mine[:, :, t, s].sum()) for s, row in enumerate(rows)} for t in range(pos.size)
            ]
            self.held[g] = self.policy(rows, given, self.budget)

    @property
    def keys(self):
        return np.stack([np.stack([row.key for row in rows]) for rows in self.held])

    @property
    def values(self):
        return np.stack([np.stack([row.value for row in rows]) for rows in self.held])

    allocated_bytes = 0

    def crop(self, length):
        raise NotImplementedError

    def state(self):
        return State({}, {})

    def restore(self, state):
        raise NotImplementedError
