"""`paged:B`: rows in blocks of B tokens, which need not be contiguous (PagedAttention, arXiv:2309.06180). Lossless.

A fork shares all blocks and copies a block only when it is written; in a pool (`kvsim.caches.paged.pool`) sequences
share the blocks of a common prefix. Every row is kept, also in layers with a window; their views contain only the rows
that the queries can see.
"""

from typing import Any

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, Waste, check_numbers, read_whole
from kvsim.caches.paged.blocks import BlockPool
from kvsim.caches.paged.table import Rows, Table
from kvsim.errors import Words
from kvsim.ops import Ops
from kvsim.spans import Span, View


class PagedLayer(LayerCache):
    """The rows of one sequence in one layer of a pool. All layers of the sequence share one block table."""

    example = "paged:16"
    promise = Words("every row, in blocks of B tokens; forks share blocks and copy one when they write it")
    paper = "arXiv:2309.06180"
    in_pool = True

    def __init__(
        self,
        ops: Ops,
        shape: Shape,
        options: Any,
        window: int | None = None,
        stored: Rows | None = None,
        table: Table | None = None,
        alone: bool = True,
    ) -> None:
        super().__init__(ops, shape, options)
        self.window = window  # that of the model's attention in this layer
        self.stored = stored or Rows(ops, shape, options, 0)
        self.table = table or Table(BlockPool(None, options), [self.stored])
        self.alone = alone  # is the pool used by this sequence and its forks only?
        self.rows = 0

    @classmethod
    def read_options(cls, name: str, text: str) -> int:
        return read_whole(text, name, cls.example)

    def _first(self, stop: int) -> int:
        """The position of the first row that a query at `stop` can see."""
        return 0 if self.window is None else max(stop + 1 - self.window, 0)

    @property
    def needed(self) -> Span:
        """The positions of the rows that a later query can see."""
        return Span(self._first(self.rows), self.rows)

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        self.rows = pos.start
        self.table.prepare(pos)
        keys, values = encode(keys, values, pos)
        self.stored.write(self.table, pos, keys, values)
        self.rows = pos.stop
        seen = Span(self._first(pos.start), pos.stop)
        return (View(*self.stored.read(self.table, seen), seen, pos),)

    @property
    def held_positions(self) -> tuple[Span, ...]:
        return (self.needed,)

    @property
    def keys(self) -> Array:
        return self.stored.read(self.table, self.needed)[0]

    @property
    def values(self) -> Array:
        return self.stored.read(self.table, self.needed)[1]

    @property
    def logical_bytes(self) -> int:
        return self.needed.size * self.shape.row_bytes(self.ops)

    @property
    def _spare(self) -> int:
        """Bytes of the free blocks of a pool used by this sequence only."""
        return (self.stored.blocks - self.table.pool.held) * self.stored.block_bytes if self.alone else 0

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the sequence's blocks, shared ones included; and of the free blocks, if the sequence is alone."""
        return len(self.table.blocks) * self.stored.block_bytes + self._spare

    @property
    def waste(self) -> Waste:
        """Reserved: free blocks. Internal: the rest of the last block. External: rows that have left the window."""
        row = self.shape.row_bytes(self.ops)
        held = len(self.table.blocks) * self.stored.block_bytes
        return Waste(self._spare, held - self.rows * row, self.needed.start * row)

    def fresh(self) -> "PagedLayer":
        return type(self)(self.ops, self.shape, self.options, self.window)

    def crop(self, length: int) -> None:
        self.rows = length

    def state(self) -> State:
        """All rows, those before the window included, because the cache can be cropped to any length."""
        keys, values = self.stored.read(self.table, Span(0, self.rows))
        return State({"rows": self.rows}, {"keys": keys, "values": values})

    def restore(self, state: State) -> None:
        self.rows = state.numbers["rows"]
        self.table.crop(self.rows)
        if self.rows:
            self.table.prepare(Span(0, self.rows))
            self.stored.write(self.table, Span(0, self.rows), state.arrays["keys"], state.arrays["values"])

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        check_numbers(numbers, {"rows": seen})
        return self._shapes(seen)
