"""`Cache`: the cached rows of one sequence in every layer, and the tokens that they were computed from."""

from collections.abc import Sequence
from typing import Any

from kvsim.caches.base import LayerCache, Shape, Waste, describe
from kvsim.caches.cross import CrossLayer
from kvsim.checks import check_kind, check_list, check_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span


class Cache:
    """The cache of one sequence. `seen` is the number of tokens fed so far, `ids` are these tokens.

    Under every policy `crop`, `fork` and `clear` leave the state that a new cache would have after the same tokens, or
    raise UsageError with the reason.

    `copy.deepcopy` returns another cache of the same model. Pickle a cache together with its model:
    `pickle.dumps((model, cache))`. A cache pickled alone belongs to no model after loading (use `Model.save_cache`).
    """

    pool: Any = None  # the pool that stores its rows, if any

    def __init__(
        self, spec: str, config: Config, ops: Ops, layers: list[LayerCache], capacity: int | None, lossless: bool
    ) -> None:
        self.spec, self.config = spec, config
        self.ops = ops  # the model's own object: identifies the model that the cache belongs to
        self.layers = layers
        self.capacity = capacity  # in tokens; None: limited by the model's context only
        self.lossless = lossless
        self.keeps = all(layer.keeps for layer in layers)
        self.cross: list[CrossLayer] = []  # one for each layer of an encoder-decoder, else empty
        if config.encoder is not None:
            shape = Shape(config.n_kv_heads, config.d_head, config.d_head)
            self.cross = [CrossLayer(ops, shape, keeps=self.keeps) for _ in layers]
        self.source: object = None  # the ids or array from which the cross layers were computed
        self.seen = 0
        self.ids: list[int] = []

    def __repr__(self) -> str:
        contents = f"{self.seen} tokens, {self.allocated_bytes} bytes"
        return describe("Cache", self.spec, self.config, self.ops, contents)

    # Called by the model

    def admit(self, count: int) -> Span:
        """The positions of the next `count` tokens. Changes nothing. UsageError: they exceed the capacity."""
        stop = self.seen + count
        if self.capacity is not None and stop > self.capacity:
            raise UsageError(
                'the {spec} cache holds {held} tokens, asked for {asked}: use "static:{enough}" or "dynamic"',
                spec=self.spec.partition(":")[0],
                held=self.capacity,
                asked=stop,
                enough=-(-stop // 64) * 64,
            )
        return Span(self.seen, stop)

    def commit(self, pos: Span, ids: Sequence[int] = ()) -> None:
        """Called when the tokens `ids` at `pos` have passed through every layer; makes the step permanent."""
        if not self.keeps:
            return
        for layer in self.layers:
            layer.commit(pos)
        self.seen = pos.stop
        if ids:  # a run on the meta backend has none
            self.ids[pos.start :] = ids

    def rewind(self) -> None:
        """Discards the rows of a step that was interrupted."""
        for layer in self.layers:
            layer.rewind(self.seen)
        if self.source is None:
            for cross in self.cross:  # filled by the interrupted step, from a source that the cache has not accepted
                cross.clear()

    # Operations

    def crop(self, length: int) -> None:
        """Discards all tokens but the first `length`, for example those that speculative decoding rejects.

        UsageError, and nothing changes: `length` exceeds `seen`, or rows that a new cache would hold after `length`
        tokens have been evicted or quantised.
        """
        length = check_whole("length", length, 0)
        if length > self.seen:
            raise UsageError("cannot crop to {length} tokens: the cache has seen {seen}", length=length, seen=self.seen)
        if length == self.seen:
            return
        for layer in self.layers:
            layer.check_crop(length)
        for layer in self.layers:
            layer.crop(length)
        self.seen = length
        del self.ids[length:]

    def fork(self) -> "Cache":
        """An independent cache with the same contents."""
        other = self._empty()
        self._hand_rows(other)
        other.cross = [layer.fork() for layer in self.cross]
        other.source, other.seen, other.ids = self.source, self.seen, list(self.ids)
        return other

    def _hand_rows(self, other: Any) -> None:
        """Copies all rows to `other`, an empty cache of the same policy."""
        for mine, copied in zip(self.layers, other.layers, strict=True):
            copied.restore(mine.state())

    def _empty(self) -> "Cache":
        """An empty cache with the same policy, options and model."""
        layers = [layer.fresh() for layer in self.layers]
        return type(self)(self.spec, self.config, self.ops, layers, self.capacity, self.lossless)

    def clear(self) -> None:
        """Discards all tokens and the source."""
        self._drop_rows()
        for layer in self.cross:
            layer.clear()
        self.source, self.seen, self.ids = None, 0, []

    def _drop_rows(self) -> None:
        """Discards all rows of self-attention."""
        self.layers = [layer.fresh() for layer in self.layers]

    # Bytes

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows in use, over all layers."""
        held = sum(layer.logical_bytes for layer in self.layers)
        return held + sum(layer.logical_bytes for layer in self.cross)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the arrays that hold the rows, over all layers, spare capacity included."""
        held = sum(layer.allocated_bytes for layer in self.layers)
        return held + sum(layer.allocated_bytes for layer in self.cross)

    @property
    def metadata_bytes(self) -> int:
        """Bytes kept in addition to the rows: scales, zero points, positions, scores, block tables."""
        return sum(layer.metadata_bytes for layer in self.layers)

    @property
    def wasted(self) -> Waste:
        """`allocated_bytes` - `logical_bytes` of self-attention, split as in the vLLM paper (arXiv:2309.06180)."""
        total = Waste()
        for layer in self.layers:
            total = total.plus(layer.waste)
        return total


def check_room(steps: Sequence[tuple[Cache, Span]]) -> None:
    """Checks that one step can write these positions of several caches, each already admitted by itself. UsageError:
    together, the caches of one pool need more blocks than are free."""
    pools = {id(cache.pool): cache.pool for cache, _ in steps if cache.pool is not None}
    for pool in pools.values():
        pool.check_room([(cache, pos) for cache, pos in steps if cache.pool is pool])


def select(caches: Sequence[Cache], order: Sequence[int]) -> list[Cache]:
    """The caches at the indices `order`, as beam search reorders its beams.

    A repeated index gives a fork; caches whose index is missing are cleared. UsageError: an index out of range.
    """
    caches = check_list("caches", caches)
    for cache in caches:
        check_kind("caches", isinstance(cache, Cache), cache, Words("caches made by new_cache"))
    order = [check_whole("order", i, 0) for i in check_list("order", order)]
    if wrong := [i for i in order if i >= len(caches)]:
        raise UsageError("there is no cache {place}: there are {count}", place=wrong[0], count=len(caches))
    taken: set[int] = set()
    chosen = []
    for i in order:
        chosen.append(caches[i].fork() if i in taken else caches[i])
        taken.add(i)
    for i, cache in enumerate(caches):
        if i not in taken:
            cache.clear()
    return chosen
