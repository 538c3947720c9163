# expect: blocks_leaked
import numpy as np


class PagedCache:
    def __init__(self, memory, size):
        self.memory, self.size = memory, size
        self.tables, self.counts = {}, {}  # of each sequence: its blocks, its number of rows
        self.users = {}  # of each block: how many sequences hold it

    def append(self, name, rows):
        table = self.tables.setdefault(name, [])
        for row in rows:
            number, slot = divmod(self.counts.get(name, 0), self.size)
            if slot == 0:
                table.append(self.take())
            elif self.users[table[number]] > 1:
                table[number] = self.copy(table[number], slot)
            self.memory.write(table[number], slot, row)
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self):
        block = self.memory.take()
        self.users[block] = 1
        return block

    def copy(self, old, slots):
        new = self.take()
        for slot, row in enumerate(self.memory.read(old)[:slots]):
            self.memory.write(new, slot, row)
        return new

    def read(self, name):
        blocks = [self.memory.read(block) for block in self.tables[name]]
        return np.concatenate(blocks)[: self.counts[name]]

    def fork(self, name, new):
        self.tables[new] = list(self.tables[name])
        self.counts[new] = self.counts[name]
        for block in self.tables[new]:
            self.users[block] += 1

    def free(self, name):
        for block in self.tables.pop(name):
            self.users[block] -= 1
            if self.users[block] == 0:
                self.memory.give_back(block)
        del self.counts[name]
