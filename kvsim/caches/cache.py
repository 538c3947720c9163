"""The cache of one sequence: a layer for each of the model's, and the tokens that the model has fed to it."""

from collections.abc import Sequence
from typing import Any

from kvsim.caches.base import LayerCache, Shape, Waste
from kvsim.caches.cross import CrossLayer
from kvsim.config import Config
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Span


class Cache:
    """`seen` counts the tokens that the model has fed, `ids` has them. Whatever the policy, `crop`, `fork` and `clear`
    leave what a fresh run would have left, or refuse with the reason.

    `copy.deepcopy` gives another cache of the same model. Pickle the model with it: `pickle.dumps((model, cache))`; a
    cache that is pickled alone belongs to no model after it is loaded (`Model.save_cache` writes one for later).
    """

    pool: Any = None  # where its rows stand beside those of other caches, if they do

    def __init__(
        self, spec: str, config: Config, ops: Ops, layers: list[LayerCache], capacity: int | None, lossless: bool
    ) -> None:
        self.spec, self.config = spec, config
        self.ops = ops  # the model's own: how a model knows its caches
        self.layers = layers
        self.capacity = capacity  # tokens it can hold; None: as many as the model's context
        self.lossless = lossless
        self.keeps = all(layer.keeps for layer in layers)
        self.cross: list[CrossLayer] = []  # one for each layer of an encoder-decoder, else none
        if config.encoder is not None:
            shape = Shape(config.n_kv_heads, config.d_head, config.d_head)
            self.cross = [CrossLayer(ops, shape, keeps=self.keeps) for _ in layers]
        self.source: object = None  # what the cross layers were made of
        self.seen = 0
        self.ids: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "fitted"}

    # What the model calls

    def admit(self, count: int) -> Span:
        """The positions of the next `count` tokens; UsageError if they do not fit. Changes nothing."""
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
        """The model has fed the tokens `ids` at `pos` through every layer."""
        if not self.keeps:
            return
        for layer in self.layers:
            layer.commit(pos)
        self.seen = pos.stop
        if ids:  # a run of shapes has none
            self.ids[pos.start :] = ids

    def rewind(self) -> None:
        """A step was interrupted: what layers have taken of it is forgotten."""
        for layer in self.layers:
            layer.rewind(self.seen)

    # Operations

    def crop(self, length: int) -> None:
        """Forget all tokens but the first `length`, as speculative decoding does with those it rejects.

        UsageError, and nothing is changed: more than it has seen, or rows that are no longer there as a fresh run
        would have them (let go, quantised).
        """
        if isinstance(length, bool) or not hasattr(length, "__index__") or not 0 <= length <= self.seen:
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
        """A second cache with the same contents, which goes its own way: a copy."""
        other = self._empty()
        self._hand_rows(other)
        other.cross = [layer.fork() for layer in self.cross]
        other.source, other.seen, other.ids = self.source, self.seen, list(self.ids)
        return other

    def _hand_rows(self, other: Any) -> None:
        """Give an empty cache of the same kind all rows."""
        for mine, copied in zip(self.layers, other.layers, strict=True):
            copied.restore(mine.state())

    def _empty(self) -> "Cache":
        """An empty cache of the same kind."""
        layers = [layer.fresh() for layer in self.layers]
        return type(self)(self.spec, self.config, self.ops, layers, self.capacity, self.lossless)

    def clear(self) -> None:
        """Forget everything, the source too."""
        self._drop_rows()
        for layer in self.cross:
            layer.clear()
        self.source, self.seen, self.ids = None, 0, []

    def _drop_rows(self) -> None:
        """Hold no row any more."""
        self.layers = [layer.fresh() for layer in self.layers]

    # Bytes

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows that matter, all layers."""
        held = sum(layer.logical_bytes for layer in self.layers)
        return held + sum(layer.logical_bytes for layer in self.cross)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the arrays that hold them, all layers, room to grow included."""
        held = sum(layer.allocated_bytes for layer in self.layers)
        return held + sum(layer.allocated_bytes for layer in self.cross)

    @property
    def metadata_bytes(self) -> int:
        """Bytes of what is kept beside the rows: scales, zero points, positions, scores, block tables."""
        return sum(layer.metadata_bytes for layer in self.layers)

    @property
    def wasted(self) -> Waste:
        """allocated_bytes - logical_bytes, split as the vLLM paper splits it."""
        total = Waste()
        for layer in self.layers:
            total = total.plus(layer.waste)
        return total


def check_room(steps: Sequence[tuple[Cache, Span]]) -> None:
    """Caches that were admitted one by one take these positions in one step. UsageError, and nothing is changed:
    those of one pool together need more than it has."""
    pools = {id(cache.pool): cache.pool for cache, _ in steps if cache.pool is not None}
    for pool in pools.values():
        pool.check_room([(cache, pos) for cache, pos in steps if cache.pool is pool])


def select(caches: Sequence[Cache], order: Sequence[int]) -> list[Cache]:
    """The caches at the places `order`, each for one sequence: beam search goes on with some twice and drops others.

    A cache that is named again is forked. UsageError: a place that is none.
    """
    if wrong := [i for i in order if not 0 <= i < len(caches)]:
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
