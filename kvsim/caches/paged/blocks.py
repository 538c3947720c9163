"""Block numbers of a pool: free list, reference counts and the prefix cache (vLLM, arXiv:2309.06180). The arrays are in
`kvsim.caches.paged.table`.

A block with no references is free. If it is full and ends a known prefix, it stays cached and can be reused until it is
allocated again. Cached free blocks are allocated after all others, in the order in which they were freed (LRU).

Sequences that compute the same prefix in one step store it in a block each. All of them are cached, as in vLLM, so that
the prefix is found as long as one of them is left.

What the block tables hold is the truth: after a change that was interrupted, references are counted again from them.
"""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from weakref import ref

from kvsim.errors import UsageError


def prefix_key(parent: bytes, ids: Sequence[int]) -> bytes:
    """The key of the prefix that extends the prefix `parent` (b"": empty) by a block of `ids`: SHA-256 of both.

    Two prefixes must never share a key; Python's own `hash` has collisions (-1 and -2).
    """
    from hashlib import sha256  # imported here because the import is slow and most runs do not need it

    return sha256(parent + array("q", ids).tobytes()).digest()


class HasBlocks(Protocol):
    """A block table."""

    blocks: list[int]

    def repaired(self) -> None:
        """Called when the pool has counted its references again."""


class Changing:
    """The context of `BlockPool.change`."""

    __slots__ = ("_pool",)

    def __init__(self, pool: "BlockPool") -> None:
        self._pool = pool

    def __enter__(self) -> None:
        self._pool.repair()
        self._pool.changing = True

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._pool.changing = False


class BlockPool:
    """`blocks` blocks (None: unlimited) of `size` tokens each, numbered from 0. Every operation takes constant time for
    each block that it is given."""

    def __init__(self, blocks: int | None, size: int) -> None:
        self.blocks, self.size = blocks, size
        self._references: list[int] = []  # reference count of every block ever allocated
        self._keys: list[bytes | None] = []  # of the prefix that each ends, if cached
        self._free: list[int] = []  # free and not cached; the last one freed is allocated first
        self._cached: OrderedDict[int, None] = OrderedDict()  # free and cached, in the order in which they were freed
        self._blocks_of: dict[bytes, dict[int, None]] = {}  # at least one each, in the order in which they were cached
        self.changing = False  # within `change`, and after one that was interrupted
        self._forget_tables()

    def _forget_tables(self) -> None:
        self._tables: dict[ref[HasBlocks], list[int]] = {}  # every block table, and its blocks
        self._dropped: list[ref[HasBlocks]] = []  # those that were garbage-collected and not yet released

    def __getstate__(self) -> dict[str, Any]:
        """The pool with all blocks free: in a copy, each table that is copied with it claims its blocks again."""
        self.repair()
        own = {name: value for name, value in self.__dict__.items() if name not in ("_tables", "_dropped")}
        held = [block for block, count in enumerate(self._references) if count]
        kept = [*self._cached, *(block for block in held if self._keys[block] is not None)]
        return own | {
            "_references": [0] * self.made,
            "_free": [block for block in held if self._keys[block] is None] + self._free,
            "_cached": OrderedDict.fromkeys(kept),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_tables()

    # Changes that may be interrupted

    def change(self) -> Changing:
        """A context for every change of references and tables. If an exception ends it, `repair` will be needed."""
        return Changing(self)

    def repair(self) -> None:
        """Releases the blocks of tables that were garbage-collected; after an interrupted change, counts all references
        again from the tables that are left. Not to be called within `change`."""
        if not (self.changing or self._dropped):
            return
        interrupted, self.changing = self.changing, True
        if interrupted:
            self._count_again()
        while self._dropped:
            self.release(self._tables.pop(self._dropped.pop(0)))
        self.changing = False

    def _count_again(self) -> None:
        tables = [table for known in list(self._tables) if (table := known()) is not None]
        for gone in self._dropped:
            self._tables.pop(gone, None)
        self._dropped.clear()
        made = self.made
        counts = Counter(block for table in tables for block in table.blocks)
        self._references = [counts[block] for block in range(made)]
        self._keys += [None] * (made - len(self._keys))
        free = [block for block in dict.fromkeys([*self._cached, *self._free, *range(made)]) if not counts[block]]
        self._free = [block for block in free if self._keys[block] is None]
        self._cached = OrderedDict.fromkeys(block for block in free if self._keys[block] is not None)
        self._blocks_of = {}
        for block, key in enumerate(self._keys):
            if key is not None:
                self._blocks_of.setdefault(key, {})[block] = None
        for table in tables:
            table.repaired()

    def add_table(self, table: HasBlocks) -> None:
        """Registers a table, always with the same list of blocks, which are released after it is garbage-collected."""
        # The callback is a function in C, which no interruption can split.
        self._tables[ref(table, self._dropped.append)] = table.blocks

    def claim(self, blocks: Sequence[int]) -> None:
        """Adds a reference to each block of a copied pool, for a table that was copied with it."""
        taken = {block for block in blocks if self._references[block] == 0}
        self._free = [block for block in self._free if block not in taken]
        for block in blocks:
            self._cached.pop(block, None)
            self._references[block] += 1

    @property
    def made(self) -> int:
        """Number of blocks ever allocated: 0 .. made - 1."""
        return len(self._references)

    @property
    def held(self) -> int:
        """Number of blocks that some sequence references."""
        self.repair()
        return self._held

    @property
    def _held(self) -> int:
        return len(self._references) - len(self._free) - len(self._cached)

    @property
    def free(self) -> int | None:
        """Number of blocks that can be allocated. None: unlimited."""
        return None if self.blocks is None else self.blocks - self.held

    @property
    def kept(self) -> int:
        """Number of free blocks that are still cached."""
        self.repair()
        return len(self._cached)

    def references(self, block: int) -> int:
        """Number of sequences that reference `block`."""
        return self._references[block]

    def check(self, count: int) -> None:
        """UsageError: fewer than `count` blocks are free."""
        if self.blocks is not None and count > (free := self.blocks - self._held):
            raise UsageError(
                "asked for {asked} more blocks of {size} tokens: of {blocks} in the pool {held} are in use and {free}"
                " free; clear a cache, or make a larger pool",
                asked=count,
                size=self.size,
                blocks=self.blocks,
                held=self._held,
                free=free,
            )

    def allocate(self, count: int = 1) -> list[int]:
        """Allocates `count` free blocks with one reference each, in ascending order, consecutive if possible.
        UsageError, and nothing changes: fewer are free."""
        self.check(count)
        references, free = self._references, self._free
        taken = []
        for _ in range(count):
            if free:
                block = free.pop()
                references[block] = 1
            elif len(references) != self.blocks:
                block = len(references)
                references.append(1)
                self._keys.append(None)
            else:
                block, _ = self._cached.popitem(last=False)
                self.forget(block)
                references[block] = 1
            taken.append(block)
        if count > 1:
            taken.sort()
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Adds a reference to each block, which is in use or cached. UsageError: a block that is neither."""
        references = self._references
        for block in blocks:
            if references[block] == 0:
                if self._keys[block] is None:
                    raise UsageError("block {block} is free and cannot be shared", block=block)
                del self._cached[block]
            references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Removes a reference from each block. UsageError: a block that is free.

        The last block is freed first, so that the next sequence gets them in the same order, and the end of a cached
        prefix is evicted before its beginning.
        """
        references, keys = self._references, self._keys
        for block in reversed(blocks):
            left = references[block] - 1
            if left < 0:
                raise UsageError("block {block} is already free: it cannot be released twice", block=block)
            references[block] = left
            if left == 0:
                if keys[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    # Prefix cache

    def register(self, block: int, key: bytes) -> None:
        """Caches `block`, which is referenced and full, as the end of the prefix `key`. Does nothing if it is cached
        already."""
        if self._keys[block] is None:
            self._keys[block] = key
            self._blocks_of.setdefault(key, {})[block] = None

    def is_known(self, block: int) -> bool:
        """Is `block` cached as the end of a prefix?"""
        return self._keys[block] is not None

    def find(self, key: bytes) -> int | None:
        """The first of the cached blocks that end the prefix `key`, referenced or free. None: there is none."""
        return next(iter(self._blocks_of.get(key, ())), None)

    def forget(self, block: int) -> None:
        """Removes `block` from the prefix cache, because it is about to be written. Its references do not change."""
        key = self._keys[block]
        if key is not None:
            self._keys[block] = None
            blocks = self._blocks_of[key]
            del blocks[block]
            if not blocks:
                del self._blocks_of[key]
