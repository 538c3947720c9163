"""`Cache`: the cached rows of one sequence in every layer, and the tokens that they were computed from.

A step, and every other change, is all or nothing (`change_caches`): the state of all layers is saved before it
(references only), `seen` is assigned last, and an interrupted change is rolled back, at once or, if that is interrupted
too, when the cache is next used.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from kvsim.caches.base import LayerCache, Shape, Waste, describe
from kvsim.caches.cross import CrossLayer
from kvsim.checks import check_kind, check_list, check_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span

Result = TypeVar("Result")


class Snapshot(NamedTuple):
    """The state of a cache before a change. The arrays are the cache's own: a change writes only after their rows in
    use."""

    own: dict[str, Any]  # the attributes of the cache
    n_ids: int  # the length of `ids`, which a step extends in place
    layers: list[dict[str, Any]]
    cross: list[Any]


class Cache:
    """The cache of one sequence. `seen` is the number of tokens fed so far, `ids` are these tokens.

    Under every policy `crop`, `fork` and `clear` leave the state that a new cache would have after the same tokens, or
    raise UsageError with the reason.

    `copy.deepcopy` returns another cache of the same model. Pickle a cache together with its model:
    `pickle.dumps((model, cache))`. A cache pickled alone belongs to no model after loading (use `Model.save_cache`).
    """

    pool: Any = None  # the pool that stores its rows, if any
    _before: Snapshot | None = None  # the state before a change that has not ended

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
        self.ids: list[int] = []
        self.seen = 0

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
        if ids:  # a run on the meta backend has none
            self.ids[pos.start :] = ids
        self.seen = pos.stop  # last: from here on the step counts

    # Changes, all or nothing

    def begin_change(self) -> Snapshot:
        """The state to which `roll_back` returns, to be taken before every change."""
        own = self.__dict__.copy()
        own.pop("_before", None)
        layers = [layer.snapshot() for layer in self.layers]
        self._before = before = Snapshot(own, len(self.ids), layers, [cross.held for cross in self.cross])
        return before

    def end_change(self) -> None:
        """The change is complete: forgets the state before it."""
        self._before = None

    def roll_back(self, before: Snapshot) -> None:
        """Undoes a change. May be repeated after an interruption."""
        self._before = before
        self.__dict__.update(before.own)  # `seen` among them: until the end the change is known to be incomplete
        del self.ids[before.n_ids :]
        for layer, saved in zip(self.layers, before.layers, strict=True):
            layer.roll_back(saved)
        for cross, rows in zip(self.cross, before.cross, strict=True):
            cross.held = rows
        self._before = None

    def repair(self) -> None:
        """Undoes a change that was interrupted, if the interruption kept it from being undone. To be called before the
        cache is used, but not within a change."""
        before = self._before
        if before is not None and self.seen == before.own["seen"]:
            self.roll_back(before)

    # Operations

    def crop(self, length: int) -> None:
        """Discards all tokens but the first `length`, for example those that speculative decoding rejects.

        UsageError, and nothing changes: `length` exceeds `seen`, or rows that a new cache would hold after `length`
        tokens have been evicted or quantised.
        """
        self.repair()
        length = check_whole("length", length, 0)
        if length > self.seen:
            raise UsageError("cannot crop to {length} tokens: the cache has seen {seen}", length=length, seen=self.seen)
        if length == self.seen:
            return
        for layer in self.layers:
            layer.check_crop(length)
        change_caches([self], lambda: self._crop(length))

    def _crop(self, length: int) -> None:
        for layer in self.layers:
            layer.crop(length)
        self.ids = self.ids[:length]
        self.seen = length

    def fork(self) -> "Cache":
        """An independent cache with the same contents."""
        self.repair()
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
        self.repair()
        change_caches([self], self._clear)

    def _clear(self) -> None:
        self._drop_rows()
        for layer in self.cross:
            layer.clear()
        self.source, self.ids = None, []
        self.seen = 0

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


def change_caches(caches: Sequence[Cache], change: Callable[[], Result]) -> Result:
    """The result of `change()`, which changes these caches: all of them or, if an exception ends it, none, since the
    caller does not get the result."""
    saved = [(cache, cache.begin_change()) for cache in caches if cache.keeps]
    try:
        result = change()
        for cache, _ in saved:
            cache.end_change()
        return result
    except BaseException:
        for cache, before in saved:
            cache.roll_back(before)
        raise


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
