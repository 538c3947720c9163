"""The memory of exercise 13: blocks that are taken, written, read and given back, and the sequences that hold them."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.caches.paged.table import blocks_for
from kvsim.testing.subject.calls import Problem, UnreadableError, to_host

FIRST, BLOCKS = 10, 30  # the numbers of blocks, larger than every number of a block within a sequence
LOGICAL, REUSED, SHARED = "paged_logical_used_as_physical", "paged_freed_block_reused", "fork_shares_tail"
LEAKED, TWICE, COPIED = "blocks_leaked", "freed_twice", "fork_copies_all"
UNFILLED, LOST, ONE_TABLE = "last_block_not_filled", "copy_lost_rows", "fork_not_copied"


class Wrong(NamedTuple):
    """What is wrong, and the mistake that explains it."""

    problem: Problem
    id: str | None = None


class Memory:
    """Blocks of `size` rows of `width` numbers. `wrong`: the first use of them that is wrong.

    A sequence holds the blocks that were taken while rows were appended to it, and those that it shares with the
    sequence that it was forked from.
    """

    def __init__(self, size: int, width: int, seed: int) -> None:
        generator = np.random.default_rng((seed, 1))
        self.size = size
        self.cells = generator.standard_normal((FIRST + BLOCKS, size, width))  # junk that was never written
        numbers = generator.permutation(np.arange(FIRST, FIRST + BLOCKS)).tolist()
        self.free = [max(numbers[:2]), min(numbers[:2]), *numbers[2:]]  # the next first; numbers do not ascend
        self.holders: dict[int, set[str]] = {}  # of each block that is taken
        self.tables: dict[str, dict[int, int]] = {}  # of each sequence: where the newest row of each of its blocks is
        self.forked: dict[str, str] = {}  # each sequence that was forked, and its fork, in both directions
        self.wrong: Wrong | None = None
        self.begin("", "", np.zeros((0, width)), 0)

    def begin(self, call: str, name: str, rows: Any, old: int) -> None:
        """The next uses of blocks are of this call, for a sequence that is to have these rows; of them `old` were there
        before."""
        self.call, self.name, self.rows, self.old = call, name, rows, old
        self.taken: list[int] = []
        self.stored: dict[int, int] = {}  # the block of each row that this call writes

    def report(self, problem: Problem, id: str | None = None, **values: Any) -> None:
        """Keep a problem of this call, with these values, unless there is one already."""
        if self.wrong is None:
            found = {"call": self.call, "name": self.name, **values}
            self.wrong = Wrong(problem._replace(values=found), id)

    # What the learner's code calls. A ValueError is raised in its process.

    def take(self) -> int:
        """The number of a free block, which is then no longer free."""
        if not self.free:
            raise ValueError("no block is free")
        block: int = self.free.pop(0)
        self.holders[block] = {self.name}
        self.taken.append(block)
        return block

    def give_back(self, block: Any) -> None:
        """The block is free again."""
        self.check_number(block, "block", len(self.cells))
        if block not in self.holders:
            self.report(Problem("{call}({name}) gives back block {block}, which is free already", {}),
                        TWICE if block in self.free else LOGICAL, block=block)  # fmt: skip
            return
        if others := self.holders[block] - {self.name}:
            early = Problem("{call}({name}) gives back block {block}, which {other} still holds: it will be taken"
                            " again, and written over", {})  # fmt: skip
            self.report(early, REUSED, block=block, other=", ".join(sorted(others)))
        del self.holders[block]
        self.free.insert(0, block)

    def write(self, block: Any, slot: Any, row: Any) -> None:
        """Store a row [D]."""
        self.check_number(block, "block", len(self.cells))
        self.check_number(slot, "slot", self.size)
        try:
            found = to_host(np.asarray(row) if isinstance(row, list) else row)[0]
        except UnreadableError as error:
            raise ValueError("write takes a block, a slot and a row") from error
        if found.shape != self.cells.shape[2:]:
            raise ValueError(f"write takes a row of shape {list(self.cells.shape[2:])}, got {list(found.shape)}")
        holders = self.holders.get(block, set())
        if self.name not in holders:
            self.report_foreign(
                Problem("{call}({name}) writes to block {block}, which {name} does not hold", {}), block
            )
        elif others := holders - {self.name}:
            self.report(Problem("{call}({name}) writes to block {block}, which {other} holds, too: copy it first", {}),
                        SHARED, block=block, other=", ".join(sorted(others)))  # fmt: skip
        self.cells[block, slot] = found
        for position in np.flatnonzero((self.rows == found).all(axis=1)):
            self.stored[int(position)] = block

    def read(self, block: Any) -> Any:
        """All slots of a block, [size, D]."""
        self.check_number(block, "block", len(self.cells))
        if self.name not in self.holders.get(block, set()):
            self.report_foreign(Problem("{call}({name}) reads block {block}, which {name} does not hold", {}), block)
        return self.cells[block]

    def report_foreign(self, problem: Problem, block: int) -> None:
        """A block that the sequence does not hold. None has as small a number as those within a sequence."""
        of_fork = self.forked.get(self.name) in self.holders.get(block, set())
        self.report(problem, LOGICAL if block < FIRST else ONE_TABLE if of_fork else None, block=block)

    def check_number(self, x: Any, name: str, count: int) -> None:
        """ValueError: no number of a block or slot."""
        if type(x) is not int or not 0 <= x < count:
            raise ValueError(f"a {name} has a number from 0 to {count - 1}, got {str(x)[:40]}")

    # What a call did, looked at after it

    def table(self, name: str) -> list[int]:
        """The blocks of a sequence, in the order of its rows."""
        return [block for _, block in sorted(self.tables[name].items())]

    def rows_of(self, blocks: list[int], count: int) -> Any:
        """The first `count` rows of these blocks, [count, D]."""
        return np.concatenate([self.cells[block] for block in blocks])[:count]

    def end_append(self) -> None:
        """Are all rows written, are those of a copied block in the copy, and is no block taken without need?"""
        table = self.tables.setdefault(self.name, {})
        if missing := sorted(set(range(self.old, len(self.rows))) - set(self.stored)):
            self.report(Problem("{call}({name}) does not write its rows {rows}", {}), rows=missing)
        before = dict(table)
        table |= {position // self.size: block for position, block in sorted(self.stored.items())}
        moved = False  # to a new block, of rows that could have stayed
        for number, block in before.items():
            lost = [p for p in range(number * self.size, self.old) if p // self.size == number and p not in self.stored]
            if table[number] == block:
                continue
            if len(self.holders.get(block, ())) > 1:
                self.holders[block].discard(self.name)
                if lost:
                    bare = Problem("{call}({name}) goes on in block {new} instead of the shared {block}, without a copy"
                                   " of rows {rows}", {})  # fmt: skip
                    self.report(bare, LOST, new=table[number], block=block, rows=lost)
            moved |= not lost
        self.count_blocks(moved)

    def count_blocks(self, moved: bool) -> None:
        held = [block for block, names in self.holders.items() if self.name in names]
        needed = blocks_for(len(self.rows), self.size)
        if len(held) > needed:
            self.report(Problem("after {call}({name}) it holds {got} blocks: {rows} rows need {needed}", {}),
                        LEAKED if moved else UNFILLED, got=len(held), rows=len(self.rows), needed=needed)  # fmt: skip

    def end_fork(self, new: str) -> None:
        """The fork shares all blocks: is none taken?"""
        if self.taken:
            self.report(Problem("{call}({name}) takes {got} blocks: none is needed before one of the two writes", {}),
                        COPIED, got=len(self.taken))  # fmt: skip
        self.tables[new] = dict(self.tables[self.name])
        for block in self.table(new):
            self.holders[block].add(new)
        self.forked |= {self.name: new, new: self.name}

    def end_free(self) -> None:
        """Is every block given back that no sequence holds any more?"""
        del self.tables[self.name]
        for names in self.holders.values():
            names.discard(self.name)
        if left := sorted(block for block, names in self.holders.items() if not names):
            kept = Problem("after {call}({name}) no sequence holds blocks {blocks}, and they are not given back", {})
            self.report(kept, LEAKED, blocks=left)
