"""Blocks that many sequences of one model share (vLLM, arXiv:2309.06180): no room is set aside for tokens that may
never come, and texts with one beginning hold it once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any
from weakref import WeakSet

from kvsim.caches.base import layer_shape
from kvsim.caches.paged.blocks import BlockPool, prefix_key
from kvsim.caches.paged.layer import PagedCache, PagedLayer
from kvsim.caches.paged.table import Rows, Table, blocks_for
from kvsim.config import BY_LENGTH, Config
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span


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
        return f"<kvsim Pool {self.spec}: {self.held} blocks in use, {self.free} free>"

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
