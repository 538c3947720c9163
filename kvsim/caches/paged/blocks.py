"""Block numbers of a pool: free list, reference counts and the prefix cache (vLLM, arXiv:2309.06180). The arrays are in
`kvsim.caches.paged.table`.

A block with no references is free. If it is full and ends a known prefix, it stays cached and can be reused until it is
allocated again. Cached free blocks are allocated after all others, in the order in which they were freed (LRU).

Sequences that compute the same prefix in one step store it in a block each. All of them are cached, as in vLLM, so that
the prefix is found as long as one of them is left.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from kvsim.errors import UsageError


def prefix_key(parent: bytes, ids: Sequence[int]) -> bytes:
    """The key of the prefix that extends the prefix `parent` (b"": empty) by a block of `ids`: SHA-256 of both.

    Two prefixes must never share a key; Python's own `hash` has collisions (-1 and -2).
    """
    from hashlib import sha256  # imported here because the import is slow and most runs do not need it

    return sha256(parent + array("q", ids).tobytes()).digest()


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

    def __getstate__(self) -> dict[str, Any]:
        """The pool with all blocks free: in a copy, each table that is copied with it claims its blocks again."""
        held = [block for block, count in enumerate(self._references) if count]
        kept = [*self._cached, *(block for block in held if self._keys[block] is not None)]
        return self.__dict__ | {
            "_references": [0] * self.made,
            "_free": [block for block in held if self._keys[block] is None] + self._free,
            "_cached": OrderedDict.fromkeys(kept),
        }

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
        return len(self._references) - len(self._free) - len(self._cached)

    @property
    def free(self) -> int | None:
        """Number of blocks that can be allocated. None: unlimited."""
        return None if self.blocks is None else self.blocks - self.held

    @property
    def kept(self) -> int:
        """Number of free blocks that are still cached."""
        return len(self._cached)

    def references(self, block: int) -> int:
        """Number of sequences that reference `block`."""
        return self._references[block]

    def check(self, count: int) -> None:
        """UsageError: fewer than `count` blocks are free."""
        if self.blocks is not None and count > self.blocks - self.held:
            raise UsageError(
                "asked for {asked} more blocks of {size} tokens: of {blocks} in the pool {held} are in use and {free}"
                " free; clear a cache, or make a larger pool",
                asked=count,
                size=self.size,
                blocks=self.blocks,
                held=self.held,
                free=self.free,
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
