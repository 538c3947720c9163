"""Block tables: the blocks of each sequence in order, and the arrays in which its rows are read and written.

A run of consecutive blocks is one slice of an array and is read without a copy; other rows are gathered. The blocks of
a sequence that is alone in its pool are one run.
"""

from collections.abc import Callable
from typing import Any

from kvsim.arrays import Array
from kvsim.caches.base import Shape, array_bytes
from kvsim.caches.paged.blocks import BlockPool
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span


def blocks_for(rows: int, size: int) -> int:
    """The number of blocks of `size` rows that hold `rows` rows."""
    return -(-rows // size)


class Rows:
    """One layer's rows in all blocks of a pool: keys and values, [G, blocks · size, K]. The head axis comes first, so
    that the rows of one head in one block are contiguous."""

    def __init__(self, ops: Ops, shape: Shape, size: int, blocks: int) -> None:
        self.ops, self.shape, self.size = ops, shape, size
        self.keys, self.values = self._allocate(blocks)

    def _allocate(self, blocks: int) -> tuple[Array, Array]:
        ops, (g, k, v) = self.ops, self.shape
        rows = blocks * self.size
        try:
            made = [ops.xp.empty((g, rows, d), dtype=ops.dtype, device=ops.device) for d in (k, v)]
        except (MemoryError, ValueError) as error:
            raise UsageError(
                "the cache {spec} needs {needed} bytes, more than can be allocated: use a smaller one or dynamic",
                spec=f"paged:{self.size}",
                needed=rows * self.shape.row_bytes(ops),
            ) from error
        return made[0], made[1]

    @property
    def blocks(self) -> int:
        """Number of blocks for which there is room."""
        return int(self.values.shape[1]) // self.size

    def reserve(self, blocks: int) -> None:
        """Grows the arrays to at least `blocks` blocks, by doubling, so n blocks copy at most 2n in total."""
        if blocks <= self.blocks:
            return
        keys, values = self._allocate(1 << (blocks - 1).bit_length())
        old = slice(0, self.blocks * self.size)
        keys[:, old, :], values[:, old, :] = self.keys[:, old, :], self.values
        self.keys, self.values = keys, values  # the values last: their number of rows says how many blocks there are

    def write(self, table: "Table", pos: Span, keys: Array, values: Array) -> None:
        """Writes the rows [G, T, K] at the positions `pos`, whose blocks are in the table."""
        for span, start in table.places(pos):
            to, of = slice(start, start + span.size), slice(span.start - pos.start, span.stop - pos.start)
            self.keys[:, to, :] = keys[:, of, :]
            self.values[:, to, :] = values[:, of, :]

    def read(self, table: "Table", pos: Span) -> tuple[Array, Array]:
        """Keys and values of the positions `pos`, [G, S, K]: a slice of the arrays, or a copy."""
        first, last = pos.start // self.size, blocks_for(pos.stop, self.size)
        if table.runs_from(first):
            start = table.blocks[first] * self.size + pos.start % self.size if pos.size else 0
            rows = slice(start, start + pos.size)
            return self.keys[:, rows, :], self.values[:, rows, :]
        where = table.indices(first, last, self.ops.ids)
        rows = slice(pos.start - first * self.size, pos.stop - first * self.size)
        return self._gather(self.keys, where)[:, rows, :], self._gather(self.values, where)[:, rows, :]

    def _gather(self, x: Array, where: Array) -> Array:
        """The blocks `where` of x, concatenated: [G, blocks · size, K]."""
        xp, (g, _, width) = self.ops.xp, x.shape
        blocks = xp.reshape(x, (g, x.shape[1] // self.size, self.size * width))
        return xp.reshape(xp.take(blocks, where, axis=1), (g, where.shape[0] * self.size, width))

    def copy(self, old: int, new: int, count: int) -> None:
        """Copies the first `count` rows of the block `old` to the block `new`."""
        to, of = (slice(block * self.size, block * self.size + count) for block in (new, old))
        self.keys[:, to, :] = self.keys[:, of, :]
        self.values[:, to, :] = self.values[:, of, :]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in this layer."""
        return self.size * self.shape.row_bytes(self.ops)

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self.keys, self.values)


class Table:
    """The blocks of one sequence, the same in all layers: row s is row s % size of the block `blocks[s // size]`.

    A table releases its blocks when it is garbage-collected.
    """

    def __init__(self, pool: BlockPool, layers: list[Rows]) -> None:
        self.pool, self.layers = pool, layers
        self.blocks: list[int] = []  # always this list object: the pool releases what is in it
        self._run = 0  # index from which on the blocks are consecutive
        self._indices: dict[tuple[int, int], Any] = {}
        pool.add_table(self)

    def __reduce__(self) -> Any:
        return Table, (self.pool, self.layers), self.blocks

    def __setstate__(self, blocks: list[int]) -> None:
        with self.pool.change():
            self.pool.claim(blocks)
            self.blocks += blocks
            self._changed()

    # Blocks of the sequence

    def prepare(self, pos: Span) -> None:
        """Allocates blocks for all rows before `pos.stop` and copies shared blocks that are about to be written (copy
        on write): their rows before `pos.start` go to a new block, in every layer.

        UsageError: too few blocks are free.
        """
        first = pos.start // self.pool.size
        shared = [i for i in range(first, len(self.blocks)) if self.pool.references(self.blocks[i]) > 1]
        missing = max(blocks_for(pos.stop, self.pool.size) - len(self.blocks), 0)
        if shared or missing:
            with self.pool.change():
                new = self.pool.allocate(len(shared) + missing)
                for rows in self.layers:
                    rows.reserve(self.pool.made)
                for i, block in zip(shared, new, strict=False):
                    for rows in self.layers:
                        rows.copy(self.blocks[i], block, max(pos.start - i * self.pool.size, 0))
                self._replace(shared, new)
        if known := [block for block in self.blocks[first:] if self.pool.is_known(block)]:
            with self.pool.change():
                for block in known:  # about to be written
                    self.pool.forget(block)

    def _replace(self, places: list[int], new: list[int]) -> None:
        """Puts the first new blocks at the indices `places`, whose blocks are released, and appends the others."""
        old, known = [self.blocks[i] for i in places], min(places, default=len(self.blocks))
        for i, block in zip(places, new, strict=False):
            self.blocks[i] = block
        self.blocks += new[len(places) :]
        self.pool.release(old)
        self._changed(known)

    def take(self, blocks: list[int]) -> None:
        """Shares `blocks`, which are in use or cached, as the first blocks of this empty table."""
        with self.pool.change():
            self.pool.share(blocks)
            self.blocks += blocks
            self._changed()

    def crop(self, rows: int) -> None:
        """Releases the blocks after the first `rows` rows."""
        kept = blocks_for(rows, self.pool.size)
        if kept < len(self.blocks):
            with self.pool.change():
                gone = self.blocks[kept:]
                del self.blocks[kept:]
                self.pool.release(gone)
                self._changed()

    def repaired(self) -> None:
        """The blocks may have been changed without updating what is computed from them."""
        self._changed()

    # Indices into the arrays

    def _changed(self, known: int = 0) -> None:
        """Updates the start of the last run; the first `known` blocks have not changed."""
        self._indices.clear()
        at = max(len(self.blocks) - 1, 0)
        while at and self.blocks[at] == self.blocks[at - 1] + 1:
            if at == known and self._run < known:
                return  # the known run continues
            at -= 1
        self._run = at

    def runs_from(self, first: int) -> bool:
        """Are all blocks from the index `first` on consecutive?"""
        return first >= self._run

    def indices(self, first: int, last: int, to_device: Callable[[list[int]], Any]) -> Any:
        """The blocks `first` .. `last` - 1 as an index array, cached until the table changes."""
        if (first, last) not in self._indices:
            self._indices[first, last] = to_device(self.blocks[first:last])
        return self._indices[first, last]

    def places(self, pos: Span) -> list[tuple[Span, int]]:
        """The positions `pos` as spans that are contiguous in the arrays, each with the index of its first row."""
        size = self.pool.size
        first = pos.start // size
        if self.runs_from(first):
            return [(pos, self.blocks[first] * size + pos.start % size)]
        found = []
        for i in range(first, blocks_for(pos.stop, size)):
            span = Span(max(pos.start, i * size), min(pos.stop, (i + 1) * size))
            found.append((span, self.blocks[i] * size + span.start % size))
        return found
