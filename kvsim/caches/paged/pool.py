"""A pool of blocks for many sequences of one model (vLLM, arXiv:2309.06180): memory is allocated block by block as
texts grow, and texts with a common prefix store it once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakSet

from kvsim.caches.base import describe, layer_shape
from kvsim.caches.cache import Cache, Snapshot, change_caches
from kvsim.caches.paged.blocks import BlockPool, prefix_key
from kvsim.caches.paged.layer import PagedLayer
from kvsim.caches.paged.table import Rows, Table, blocks_for
from kvsim.checks import check_ids
from kvsim.config import BY_LENGTH, Config
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span

ID_BYTES = 4  # of an entry of a block table: int32


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
        self.prefixes: list[bytes] = []  # keys of the prefixes that its full blocks end, if the pool caches them

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
        if not self.pool.caches_prefixes or len(self.ids) != self.seen:
            return
        full = range(len(self.prefixes), self.seen // size)
        if not full:
            return
        with self.table.pool.change():
            for i in full:
                parent = self.prefixes[-1] if self.prefixes else b""
                self.prefixes.append(prefix_key(parent, self.ids[i * size : (i + 1) * size]))
                self.table.pool.register(self.table.blocks[i], self.prefixes[-1])

    def roll_back(self, before: Snapshot) -> None:
        super().roll_back(before)
        self._trim()

    def repair(self) -> None:
        super().repair()
        self._trim()

    def _trim(self) -> None:
        """Releases the blocks after those of the rows in use, and repairs the pool if a change was interrupted."""
        self.table.pool.repair()
        del self.prefixes[self.seen // self.pool.size :]
        self.table.crop(self.seen)

    def crop(self, length: int) -> None:
        super().crop(length)
        self._trim()

    def clear(self) -> None:
        super().clear()
        self._trim()

    def begin(self, blocks: list[int], ids: list[int], prefixes: list[bytes]) -> None:
        """Starts this empty cache after the tokens `ids`, whose rows are in `blocks`, which it shares."""
        self.repair()
        change_caches([self], lambda: self._begin(blocks, ids, prefixes))

    def _begin(self, blocks: list[int], ids: list[int], prefixes: list[bytes]) -> None:
        self.table.take(blocks)
        for layer in self.layers:
            layer.rows = len(ids)
        self.ids, self.prefixes = [*ids], [*prefixes]
        self.seen = len(ids)

    def _empty(self) -> "PagedCache":
        return self.pool.new_cache()

    def _hand_rows(self, other: "PagedCache") -> None:
        other.begin(self.table.blocks[: blocks_for(self.seen, self.pool.size)], self.ids, self.prefixes)
        for layer in other.layers:
            layer.rows = self.seen  # a run on the meta backend has no ids

    def _drop_rows(self) -> None:
        for layer in self.layers:
            layer.rows = 0
        self.prefixes = []

    @property
    def metadata_bytes(self) -> int:
        return super().metadata_bytes + ID_BYTES * len(self.table.blocks)


class Pool:
    """`blocks` blocks (None: arrays grow by doubling) of `size` tokens, in every layer of the model.

    `new_cache()` returns an ordinary cache. Its blocks are released when it is cleared or garbage-collected; full ones
    stay cached by the prefix that they end, for `reuse`, until they are allocated again.
    """

    def __init__(
        self, spec: str, config: Config, ops: Ops, size: int, blocks: int | None, *, alone: bool = False
    ) -> None:
        self.spec, self.config, self.ops = spec, config, ops
        self.alone = alone  # used by one sequence and its forks only
        self.numbers = BlockPool(blocks, size)
        self.layers = [Rows(ops, layer_shape(config), size, blocks or 0) for _ in config.layers]
        self.by_length = any(kind.rope and kind.rope.kind in BY_LENGTH for kind in config.layers)
        # Prefixes are cached only if rows depend on nothing but the ids.
        self.caches_prefixes = not alone and config.encoder is None and not self.by_length
        self._caches: WeakSet[PagedCache] = WeakSet()

    def __repr__(self) -> str:
        free = "any number" if self.free is None else self.free
        contents = f"{self.held} blocks in use, {free} free, {self.allocated_bytes} bytes"
        return describe("Pool", self.spec, self.config, self.ops, contents)

    def new_cache(self) -> PagedCache:
        """An empty cache for one sequence, whose rows are stored in this pool."""
        table = Table(self.numbers, self.layers)
        pairs = zip(self.config.layers, self.layers, strict=True)
        layers = [
            PagedLayer(self.ops, rows.shape, self.size, kind.window, rows, table, self.alone) for kind, rows in pairs
        ]
        cache = PagedCache(self, self.config, self.ops, layers, table)
        self.add(cache)
        return cache

    def add(self, cache: PagedCache) -> None:
        """Registers a cache whose rows are stored here, for `logical_bytes`; weakly referenced."""
        self._caches.add(cache)

    def __getstate__(self) -> dict[str, Any]:
        """Without the caches: those copied together with the pool add themselves to the copy."""
        return {name: value for name, value in self.__dict__.items() if name != "_caches"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._caches = WeakSet()

    def reuse(self, cache: PagedCache, ids: Iterable[int]) -> int:
        """Starts an empty cache with the longest prefix of `ids` whose blocks are cached; returns its number of tokens.
        At least the last token remains to be fed: `model(ids[cache.seen:], cache)`.

        UsageError: a cache of another pool or one that is not empty; a model whose rows depend on more than the ids; an
        id outside the vocabulary.
        """
        if not isinstance(cache, PagedCache) or cache.pool is not self:
            raise UsageError("the cache belongs to another pool: use one made by this pool's new_cache")
        if cache.seen:
            raise UsageError("only an empty cache can reuse a prefix, this one has seen {seen} tokens", seen=cache.seen)
        if self.config.encoder is not None:
            raise UsageError("an encoder-decoder cannot reuse prefixes: its rows depend on the source as well")
        if self.by_length:
            raise UsageError(
                "this model cannot reuse prefixes: its position encoding depends on the length of the text"
            )
        ids = check_ids(ids, self.config.vocab_size, self.config.family, least=0)
        blocks: list[int] = []
        prefixes: list[bytes] = []
        for stop in range(self.size, len(ids), self.size):
            key = prefix_key(prefixes[-1] if prefixes else b"", ids[stop - self.size : stop])
            found = self.numbers.find(key)
            if found is None:
                break
            blocks.append(found)
            prefixes.append(key)
        cache.begin(blocks, ids[: len(blocks) * self.size], prefixes)
        return cache.seen

    def check_room(self, steps: Sequence[tuple[PagedCache, Span]]) -> None:
        """Checks that one step can write these positions of several caches. UsageError: too few blocks are free.

        Needed are blocks for new rows and copies of the shared blocks that are written: one for each writer, except
        that the last writer keeps the block if every holder writes it.
        """
        self.numbers.repair()
        needed, writers = 0, Counter[int]()
        for cache, pos in steps:
            held = cache.table.blocks
            needed += max(blocks_for(pos.stop, self.size) - len(held), 0)
            writers.update(held[pos.start // self.size :])
        for block, count in writers.items():
            needed += min(count, self.numbers.references(block) - 1)
        self.numbers.check(needed)

    # Blocks and bytes

    @property
    def size(self) -> int:
        """Tokens in a block."""
        return self.numbers.size

    @property
    def blocks(self) -> int | None:
        """Total number of blocks. None: unlimited."""
        return self.numbers.blocks

    @property
    def held(self) -> int:
        """Number of blocks in use, shared ones counted once."""
        return self.numbers.held

    @property
    def free(self) -> int | None:
        """Number of blocks that can be allocated. None: unlimited."""
        return self.numbers.free

    @property
    def kept(self) -> int:
        """Number of free blocks that still cache a prefix."""
        return self.numbers.kept

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all arrays, free blocks included."""
        return sum(rows.allocated_bytes for rows in self.layers)

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows in use by some cache, shared rows counted once."""
        caches = list(self._caches)
        return sum(
            len(set().union(*(self._places(cache, i) for cache in caches))) * rows.shape.row_bytes(self.ops)
            for i, rows in enumerate(self.layers)
        )

    def _places(self, cache: PagedCache, layer: int) -> set[int]:
        """Indices of the rows of that layer's arrays that the cache needs."""
        blocks, size = cache.table.blocks, self.size
        return {blocks[i // size] * size + i % size for i in range(*cache.layers[layer].needed)}
