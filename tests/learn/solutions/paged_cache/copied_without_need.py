import numpy as np


class PagedCache:
    """A partial last block that was ever shared is copied, even if it no longer is; and the old one is given back."""

    def __init__(self, memory, size):
        self.memory, self.size = memory, size
        self.tables, self.counts, self.users, self.ever = {}, {}, {}, set()

    def append(self, name, rows):
        table, n = self.tables.setdefault(name, []), self.counts.get(name, 0)
        slot = n % self.size
        if slot and table[-1] in self.ever:
            old, held = table[-1], self.memory.read(table[-1])[:slot]
            self.drop(old)
            table[-1] = self.take()
            for i in range(slot):
                self.memory.write(table[-1], i, held[i])
        for row in rows:
            if n % self.size == 0:
                table.append(self.take())
            self.memory.write(table[-1], n % self.size, row)
            n += 1
        self.counts[name] = n

    def take(self):
        block = self.memory.take()
        self.users[block] = 1
        self.ever.discard(block)
        return block

    def drop(self, block):
        self.users[block] -= 1
        if not self.users[block]:
            self.memory.give_back(block)

    def read(self, name):
        return np.concatenate([self.memory.read(b) for b in self.tables[name]])[: self.counts[name]]

    def fork(self, name, new):
        self.tables[new], self.counts[new] = self.tables[name][:], self.counts[name]
        self.ever.update(self.tables[name])
        for block in self.tables[name]:
            self.users[block] += 1

    def free(self, name):
        for block in self.tables.pop(name):
            self.drop(block)
        self.counts.pop(name)
