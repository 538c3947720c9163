"""Blocks that many sequences of one model share (vLLM, arXiv:2309.06180): no room is set aside for tokens that may
never come, and texts with one beginning hold it once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any
from weakref import WeakSet

from kvsim.caches.base import describe, layer_shape
from kvsim.caches.cache import Cache
from kvsim.caches.paged.blocks import BlockPool, prefix_key
from kvsim.caches.paged.layer import PagedLayer
from kvsim.caches.paged.table import Rows, Table, blocks_for
from kvsim.config import BY_LENGTH, Config
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span

ID_BYTES = 4  # of a block's number in a block table: int32


class PagedCache(Cache):
    """The cache of one sequence in a pool; its blocks are released when it is garbage-collected.

    A deep copy has its own copy of the pool, in which only the caches copied with it hold blocks; `fork` stays in the
    same pool.
    """

    pool: "Pool"
    layers: list[PagedLayer]  # type: ignore[assignment]

    def __init__(self, pool: "Pool", config: Config, ops: Ops, layers: list[PagedLayer], table: Table) -> None:
        super().__init__(pool.spec, config, ops, [*layers], None, lossless=True)
        self.pool, self.table = pool, table
        self.prefixes: list[bytes] = []  # keys of the prefixes that its full blocks end, as far as others may find them

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


class Pool:
    """`blocks` blocks (None: arrays grow by doubling) of `size` tokens, in every layer of the model.

    `new_cache()` is a cache like any other. A cache that is cleared, or that nobody has any more, gives its blocks
    back; full ones can be found by the text that they end (`reuse`) until they are given out again.
    """

    def __init__(
        self, spec: str, config: Config, ops: Ops, size: int, blocks: int | None, *, alone: bool = False
    ) -> None:
        self.spec, self.config, self.ops = spec, config, ops
        self.alone = alone  # made for one sequence and its forks
        self.numbers = BlockPool(blocks, size)
        self.layers = [Rows(ops, layer_shape(config), size, blocks or 0) for _ in config.layers]
        self.by_length = any(kind.rope and kind.rope.kind in BY_LENGTH for kind in config.layers)
        # Can rows be found by the ids they were made of? No where more than ids goes into them.
        self.finds = not alone and config.encoder is None and not self.by_length
        self._caches: WeakSet[PagedCache] = WeakSet()

    def __repr__(self) -> str:
        free = "any number" if self.free is None else self.free
        contents = f"{self.held} blocks in use, {free} free, {self.allocated_bytes} bytes"
        return describe("Pool", self.spec, self.config, self.ops, contents)

    def new_cache(self) -> PagedCache:
        """An empty cache for one sequence, whose rows stand in this pool."""
        table = Table(self.numbers, self.layers)
        pairs = zip(self.config.layers, self.layers, strict=True)
        layers = [
            PagedLayer(self.ops, rows.shape, self.size, kind.window, rows, table, self.alone) for kind, rows in pairs
        ]
        cache = PagedCache(self, self.config, self.ops, layers, table)
        self.add(cache)
        return cache

    def add(self, cache: PagedCache) -> None:
        """The cache's rows stand here: they count as held for as long as it lives."""
        self._caches.add(cache)

    def __getstate__(self) -> dict[str, Any]:
        """A copy knows the caches that are copied with it: each adds itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_caches"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._caches = WeakSet()

    def reuse(self, cache: PagedCache, ids: Iterable[int]) -> int:
        """Let an empty cache begin with the longest prefix of `ids` whose full blocks the pool has, and say how many
        tokens that is: `model(ids[cache.seen:], cache)` goes on. At least the last token is left to be fed.

        UsageError: a cache of another pool, or not empty; a model whose rows are not made of ids alone.
        """
        if not isinstance(cache, PagedCache) or cache.pool is not self:
            raise UsageError("the cache stands in another pool: use one of this pool's new_cache")
        if cache.seen:
            raise UsageError("only an empty cache can begin with a prefix, this one has seen {seen}", seen=cache.seen)
        if self.config.encoder is not None:
            raise UsageError("rows of an encoder-decoder depend on its source, not on ids alone: none can be reused")
        if self.by_length:
            raise UsageError(
                "the positions of this model are encoded by the length of the text: rows of another cannot be reused"
            )
        told = [index(i) for i in ids]
        blocks: list[int] = []
        prefixes: list[bytes] = []
        for stop in range(self.size, len(told), self.size):
            key = prefix_key(prefixes[-1] if prefixes else b"", told[stop - self.size : stop])
            found = self.numbers.find(key)
            if found is None:
                break
            blocks.append(found)
            prefixes.append(key)
        cache.begin(blocks, told[: len(blocks) * self.size], prefixes)
        return cache.seen

    def check_room(self, steps: Sequence[tuple[PagedCache, Span]]) -> None:
        """The caches take these positions in one step. UsageError, and nothing is changed: too few blocks are free.

        Needed are blocks for new rows, and a copy of every shared block that is written: for each writer but, where
        all who hold it write, the last.
        """
        needed, writers = 0, Counter[int]()
        for cache, pos in steps:
            held = cache.table.blocks
            needed += max(blocks_for(pos.stop, self.size) - len(held), 0)
            writers.update(held[pos.start // self.size :])
        for block, count in writers.items():
            needed += min(count, self.numbers.references(block) - 1)
        self.numbers.check(needed)

    # What is there

    @property
    def size(self) -> int:
        """Tokens of a block."""
        return self.numbers.size

    @property
    def blocks(self) -> int | None:
        """Blocks in all. None: as many as it takes."""
        return self.numbers.blocks

    @property
    def held(self) -> int:
        """Blocks in use, shared ones counted once."""
        return self.numbers.held

    @property
    def free(self) -> int | None:
        """Blocks that can be given out. None: no end of them."""
        return self.numbers.free

    @property
    def kept(self) -> int:
        """Those of the free blocks that can still be found."""
        return self.numbers.kept

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(rows.allocated_bytes for rows in self.layers)

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows that matter to some cache, those that several share counted once."""
        caches = list(self._caches)
        return sum(
            len(set().union(*(self._places(cache, i) for cache in caches))) * rows.shape.row_bytes(self.ops)
            for i, rows in enumerate(self.layers)
        )

    def _places(self, cache: PagedCache, layer: int) -> set[int]:
        """The rows of that layer's arrays that the cache needs."""
        blocks, size = cache.table.blocks, self.size
        return {blocks[i // size] * size + i % size for i in range(*cache.layers[layer].needed)}
