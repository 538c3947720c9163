# expect: last_block_not_filled
import numpy as np


class PagedCache:
    """Every append begins a new block."""

    def __init__(self, memory, size):
        self.memory, self.size = memory, size
        self.parts = {}  # of each sequence: (block, number of rows in it)

    def append(self, name, rows):
        for first in range(0, len(rows), self.size):
            block, part = self.memory.take(), rows[first : first + self.size]
            for slot, row in enumerate(part):
                self.memory.write(block, slot, row)
            self.parts.setdefault(name, []).append((block, len(part)))

    def read(self, name):
        return np.concatenate([self.memory.read(block)[:n] for block, n in self.parts[name]])

    def fork(self, name, new):
        self.parts[new] = list(self.parts[name])

    def free(self, name):
        for block, _ in self.parts.pop(name):
            self.memory.give_back(block)
