"""`paged:B`: rows in blocks of B tokens that need not lie one after the other (vLLM, arXiv:2309.06180). Lossless.

A fork shares all blocks and copies one only when it is written; a pool (`kvsim.caches.paged.pool`) lets sequences share
those of one beginning. Every row stays, also where the layer has a window: it shows the queries what they can see.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, Waste, read_whole
from kvsim.caches.cache import Cache
from kvsim.caches.paged.blocks import BlockPool, prefix_key
from kvsim.caches.paged.table import Rows, Table, blocks_for
from kvsim.config import Config
from kvsim.errors import Words
from kvsim.ops import Ops
from kvsim.spans import Span, View

if TYPE_CHECKING:
    from kvsim.caches.paged.pool import Pool

ID_BYTES = 4  # of a block's number in a block table: int32


class PagedLayer(LayerCache):
    """What one sequence has in one layer of a pool. Its table, which all layers of the sequence share, says where."""

    example = "paged:16"
    promise = Words("every row, in blocks of B tokens; forks share blocks and copy one when they write it")
    paper = "arXiv:2309.06180"
    by_layer = False

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
        self.window = window  # the model's own, of this layer
        self.stored = stored or Rows(ops, shape, options, 0)
        self.table = table or Table(BlockPool(None, options), [self.stored])
        self.alone = alone  # are free blocks there for this sequence (and its forks) only?
        self.rows = 0

    @classmethod
    def read_options(cls, name: str, text: str) -> int:
        return read_whole(text, name, cls.example)

    @classmethod
    def make_layers(cls, config: Config, ops: Ops, options: Any) -> list[LayerCache]:
        return cls.make_cache(f"paged:{options}", config, ops, options).layers

    @classmethod
    def make_cache(cls, spec: str, config: Config, ops: Ops, options: Any) -> Cache:
        from kvsim.caches.paged.pool import Pool

        return Pool(spec, config, ops, options, None, alone=True).new_cache()

    def _first(self, stop: int) -> int:
        """The first row that a query at position `stop` can see."""
        return 0 if self.window is None else max(stop + 1 - self.window, 0)

    @property
    def needed(self) -> Span:
        """The rows that some query to come can see."""
        return Span(self._first(self.rows), self.rows)

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        self.rows = pos.start
        self.table.prepare(pos)
        keys, values = encode(keys, values, pos)
        self.stored.write(self.table, pos, keys, values)
        self.rows = pos.stop
        seen = Span(self._first(pos.start), pos.stop)
        return View(*self.stored.read(self.table, seen), seen, pos)

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
        """Bytes of the free blocks that nobody else can get."""
        return (self.stored.blocks - self.table.pool.held) * self.stored.block_bytes if self.alone else 0

    @property
    def allocated_bytes(self) -> int:
        """All arrays of a sequence that is alone; of others the blocks they hold, shared ones too."""
        return len(self.table.blocks) * self.stored.block_bytes + self._spare

    @property
    def waste(self) -> Waste:
        """Free blocks are for tokens to come; nothing else can be in what is left of the last block; and a window
        leaves rows behind that nobody needs."""
        row = self.shape.row_bytes(self.ops)
        held = len(self.table.blocks) * self.stored.block_bytes
        return Waste(self._spare, held - self.rows * row, self.needed.start * row)

    def fresh(self) -> "PagedLayer":
        return type(self)(self.ops, self.shape, self.options, self.window)

    def crop(self, length: int) -> None:
        self.rows = length

    def state(self) -> State:
        """All rows, those before the window too: it can be cropped to any length."""
        keys, values = self.stored.read(self.table, Span(0, self.rows))
        return State({"rows": self.rows}, {"keys": keys, "values": values})

    def restore(self, state: State) -> None:
        self.rows = state.numbers["rows"]
        self.table.crop(self.rows)
        if self.rows:
            self.table.prepare(Span(0, self.rows))
            self.stored.write(self.table, Span(0, self.rows), state.arrays["keys"], state.arrays["values"])


class PagedCache(Cache):
    """The cache of one sequence in a pool. Without anybody who has it any more, its blocks are free. A deep copy has a
    copy of the pool, in which only caches that were copied with it have blocks; `fork` gives one in the same pool."""

    pool: "Pool"
    layers: list[PagedLayer]  # type: ignore[assignment]

    def __init__(self, pool: "Pool", config: Config, ops: Ops, layers: list[PagedLayer], table: Table) -> None:
        super().__init__(pool.spec, config, ops, [*layers], None, lossless=True)
        self.pool, self.table = pool, table
        self.prefixes: list[bytes] = []  # what its full blocks end, as far as others may find them

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.pool.add(self)

    def admit(self, count: int) -> Span:
        pos = super().admit(count)
        self.pool.check_room([(self, pos)])
        return pos

    def commit(self, pos: Span, ids: Sequence[int] = ()) -> None:
        super().commit(pos, ids)
        size = self.pool.size
        if not self.pool.finds or len(self.ids) != self.seen:
            return
        for i in range(len(self.prefixes), self.seen // size):
            parent = self.prefixes[-1] if self.prefixes else b""
            self.prefixes.append(prefix_key(parent, self.ids[i * size : (i + 1) * size]))
            self.table.pool.register(self.table.blocks[i], self.prefixes[-1])

    def crop(self, length: int) -> None:
        super().crop(length)
        for layer in self.layers:  # an interrupted step may have left more
            layer.rows = self.seen
        self.table.crop(self.seen)
        del self.prefixes[self.seen // self.pool.size :]

    def begin(self, blocks: list[int], ids: list[int], prefixes: list[bytes]) -> None:
        """An empty cache goes on after the tokens `ids`, whose rows stand in `blocks`: it shares them."""
        self.table.crop(0)  # what an interrupted step may have left
        self.table.take(blocks)
        for layer in self.layers:
            layer.rows = len(ids)
        self.seen, self.ids, self.prefixes = len(ids), [*ids], [*prefixes]

    def _empty(self) -> "PagedCache":
        return self.pool.new_cache()

    def _hand_rows(self, other: "PagedCache") -> None:
        other.begin(self.table.blocks[: blocks_for(self.seen, self.pool.size)], self.ids, self.prefixes)
        for layer in other.layers:
            layer.rows = self.seen  # a run of shapes has no ids

    def _drop_rows(self) -> None:
        self.begin([], [], [])

    @property
    def metadata_bytes(self) -> int:
        return super().metadata_bytes + ID_BYTES * len(self.table.blocks)
