import numpy as np


class Sequence:
    def __init__(self, table=(), n=0):
        self.table, self.n = list(table), n


class PagedCache:
    """Who holds a block is looked up in all tables; blocks are taken before anything is written."""

    def __init__(self, memory, size):
        self.memory, self.size, self.all = memory, size, {}

    def shared(self, block):
        return sum(block in one.table for one in self.all.values()) > 1

    def append(self, name, rows):
        one = self.all.setdefault(name, Sequence())
        stop = one.n + len(rows)
        while len(one.table) * self.size < stop:
            one.table.append(self.memory.take())
        number, used = divmod(one.n, self.size)
        if used and self.shared(one.table[number]):
            kept = self.memory.read(one.table[number])
            one.table[number] = self.memory.take()
            for slot in range(used):
                self.memory.write(one.table[number], slot, kept[slot])
        for position, row in zip(range(one.n, stop), rows, strict=True):
            self.memory.write(one.table[position // self.size], position % self.size, row)
        one.n = stop

    def read(self, name):
        one = self.all[name]
        return [self.memory.read(one.table[p // self.size])[p % self.size] for p in range(one.n)]

    def fork(self, name, new):
        self.all[new] = Sequence(self.all[name].table, self.all[name].n)

    def free(self, name):
        gone = self.all.pop(name).table
        for block in set(gone) - {block for one in self.all.values() for block in one.table}:
            self.memory.give_back(block)
