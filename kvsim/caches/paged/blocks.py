"""Blocks as whole numbers: which are free, how many sequences hold each, and which beginning of a text each ends
(vLLM, arXiv:2309.06180). No arrays: what stands in a block is `kvsim.caches.paged.pool`'s.

A block that nobody holds any more is free. If it is full of a known prefix it may still be found by it, until it is
given out again: those are given out last, the one freed longest ago first.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from kvsim.errors import UsageError


def prefix_key(parent: bytes, ids: Sequence[int]) -> bytes:
    """What tells the prefix that goes on from `parent` (b"": the start) with a block of `ids` from all others:
    SHA-256 of both, for two prefixes must never be taken for one, as Python's own `hash` does (-1 and -2)."""
    from hashlib import sha256  # takes longer to import than most runs need it for

    return sha256(parent + array("q", ids).tobytes()).digest()


class BlockPool:
    """`blocks` blocks (None: ever more) of `size` tokens each, numbered from 0. Every operation costs the same
    whatever their number; those that take several blocks, so much for each."""

    def __init__(self, blocks: int | None, size: int) -> None:
        self.blocks, self.size = blocks, size
        self._references: list[int] = []  # holders of every block that was ever given out
        self._keys: list[bytes | None] = []  # the prefix it ends, if it may be found
        self._free: list[int] = []  # free, not to be found: the last one freed is the next one given out
        self._found: OrderedDict[int, None] = OrderedDict()  # free, to be found: the first one freed is first
        self._block_of: dict[bytes, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """All blocks free: in a copy, tables that are copied with it claim theirs."""
        held = [block for block, count in enumerate(self._references) if count]
        kept = [*self._found, *(block for block in held if self._keys[block] is not None)]
        return self.__dict__ | {
            "_references": [0] * self.made,
            "_free": [block for block in held if self._keys[block] is None] + self._free,
            "_found": OrderedDict.fromkeys(kept),
        }

    def claim(self, blocks: Sequence[int]) -> None:
        """One more holder for each, of a pool that was copied: its contents are this holder's."""
        taken = {block for block in blocks if self._references[block] == 0}
        self._free = [block for block in self._free if block not in taken]
        for block in blocks:
            self._found.pop(block, None)
            self._references[block] += 1

    @property
    def made(self) -> int:
        """Blocks ever given out: they are 0 to made - 1."""
        return len(self._references)

    @property
    def held(self) -> int:
        """Blocks that some sequence holds."""
        return len(self._references) - len(self._free) - len(self._found)

    @property
    def free(self) -> int | None:
        """Blocks that can be given out. None: no end of them."""
        return None if self.blocks is None else self.blocks - self.held

    @property
    def kept(self) -> int:
        """Those of the free blocks that may still be found by the prefix they end."""
        return len(self._found)

    def references(self, block: int) -> int:
        """How many sequences hold it."""
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
        """`count` free blocks, held once each, their numbers going up: one after the other where nothing is in
        between. UsageError, and nothing is changed: there are not so many."""
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
                block, _ = self._found.popitem(last=False)
                self.forget(block)
                references[block] = 1
            taken.append(block)
        if count > 1:
            taken.sort()
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """One more holder for each; one that is free and was found is taken back. UsageError: free, and not found."""
        references = self._references
        for block in blocks:
            if references[block] == 0:
                if self._keys[block] is None:
                    raise UsageError("block {block} is free: nobody can share it", block=block)
                del self._found[block]
            references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One holder fewer for each. The last becomes free first: so the next sequence gets them in the same order,
        and of what can be found the end of a prefix goes before its beginning. UsageError: one is free already."""
        references, keys = self._references, self._keys
        for block in reversed(blocks):
            left = references[block] - 1
            if left < 0:
                raise UsageError("block {block} is free already: it cannot be given back twice", block=block)
            references[block] = left
            if left == 0:
                if keys[block] is None:
                    self._free.append(block)
                else:
                    self._found[block] = None

    # Prefixes

    def register(self, block: int, key: bytes) -> None:
        """Block `block`, which somebody holds, is full and ends the prefix `key`. One block for a prefix is enough:
        the first."""
        if key not in self._block_of and self._keys[block] is None:
            self._block_of[key] = block
            self._keys[block] = key

    def find(self, key: bytes) -> int | None:
        """The block that ends the prefix `key`, held or not."""
        return self._block_of.get(key)

    def forget(self, block: int) -> None:
        """It is going to be written: nobody must find it by what it ended. It has a holder, or gets one now."""
        key = self._keys[block]
        if key is not None:
            del self._block_of[key]
            self._keys[block] = None
