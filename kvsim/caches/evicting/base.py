"""What the policies that let go of rows by a score share: each head keeps rows of its own, at their true positions.

Rows lie in order of position. The first are what is left of those before position `since`, [G, N] positions; from
`since` on all are there. A policy says after a step which columns stay.
"""

from abc import abstractmethod
from fractions import Fraction
from typing import Any, ClassVar

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, array_bytes, read_whole
from kvsim.config import Config
from kvsim.errors import UsageError
from kvsim.ops import Ops
from kvsim.spans import Scattered, Span, View

POSITION_BYTES = 8  # int64


def gather(ops: Ops, x: Array, columns: Array) -> Array:
    """Of x [G, S] or [G, S, K], each head's own columns [G, N]: [G, N] or [G, N, K]."""
    xp, (g, s, *rest) = ops.xp, x.shape
    places = columns + ops.arange(0, g)[:, None] * s  # in one list of all heads' rows, for `take`
    taken = xp.take(xp.reshape(x, (g * s, *rest)), xp.reshape(places, (-1,)), axis=0)
    return xp.reshape(taken, (g, columns.shape[1], *rest))


def best_columns(ops: Ops, scores: Array, count: int) -> Array:
    """Where the `count` largest of each head's scores [G, S] stand, in order: [G, count]. Of equals the older."""
    order = ops.xp.argsort(-scores, axis=-1, stable=True)
    return ops.xp.sort(order[:, :count], axis=-1)


def followed_by(ops: Ops, columns: Array, start: int, stop: int) -> Array:
    """Each head's columns [G, N] and then start, start + 1, ... stop - 1."""
    last = ops.xp.broadcast_to(ops.arange(start, stop)[None, :], (columns.shape[0], stop - start))
    return ops.xp.concat([columns, last], axis=1)


def zeros(ops: Ops, n_heads: int, count: int) -> Array:
    """[n_heads, count], in the type that statistics are computed in."""
    return ops.xp.zeros_like(ops.xp.empty((n_heads, count), dtype=ops.wide_dtype, device=ops.device))


def attention_received(ops: Ops, probs: Array, n_heads: int) -> Array:
    """Probabilities summed over the queries and over all query heads that read a head of the cache: [n_heads, S].

    They come as [G, R, T, S]; where heads share the one row of a latent, as [H, 1, T, S] with n_heads = 1.
    """
    xp = ops.xp
    g, r, t, s = probs.shape
    flat = xp.reshape(probs, (n_heads, g // n_heads * r * t, s))
    return xp.sum(xp.astype(flat, ops.wide_dtype, copy=False), axis=1)


class EvictingLayer(LayerCache):
    """At most `budget` rows a head after a step that lets go of some: which, `_choose` says."""

    lossless = False
    smallest: ClassVar[int] = 1  # budget

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self.budget: int = options
        self.since, self.stop = 0, 0
        self.done = 0  # tokens that every layer has taken; `stop` is ahead of it while a step runs, or has failed
        xp, (g, k, v) = ops.xp, shape
        self._old: Array = xp.empty((g, 0), dtype=xp.int64, device=ops.device)
        self._keys: Array = xp.empty((g, 0, k), dtype=ops.dtype, device=ops.device)
        self._values: Array = xp.empty((g, 0, v), dtype=ops.dtype, device=ops.device)

    @classmethod
    def read_options(cls, name: str, text: str) -> int:
        budget = read_whole(text, name, cls.example)
        if budget < cls.smallest:
            raise UsageError(
                "the cache {name} needs a budget of at least {smallest} rows, as in {example}, not {spec}",
                name=name,
                smallest=cls.smallest,
                example=cls.example,
                spec=f"{name}:{budget}",
            )
        return budget

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: int) -> None:
        if options > config.max_context:
            raise UsageError(
                "the budget of the cache {spec} is over the length: in the model's context of {context} tokens nothing"
                " would ever be let go; use a smaller budget, or dynamic",
                spec=spec,
                context=config.max_context,
            )
        if config.buckets is not None:
            raise UsageError(
                "the cache {spec} keeps other positions in each head, and this model's relative position biases are"
                " made for one list of positions: use dynamic or window:{window}",
                spec=spec,
                window=options,
            )

    @classmethod
    def is_lossless(cls, config: Config, options: int) -> bool:
        return all(kind.window is not None for kind in config.layers)  # and every layer keeps its own

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Any) -> Fraction:
        """With its position, once rows before it were let go."""
        return super().row_bytes(ops, shape, options) + shape.n_heads * POSITION_BYTES

    # What attention calls

    def _column(self, position: int) -> int:
        """Where the row of a position from `since` on stands."""
        return int(self._old.shape[1]) + position - self.since

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        if pos.start != self.done:  # rows let go, or scores, are those of a step that not all layers have been through
            raise UsageError(
                "the cache {spec} was interrupted while it let go of rows: clear it, or use a new one", spec=self.spec
            )
        xp, held = self.ops.xp, self._column(pos.start)
        keys, values = encode(keys, values, pos)
        self._keys = xp.concat([self._keys[:, :held, :], keys], axis=1)
        self._values = xp.concat([self._values[:, :held, :], values], axis=1)
        self.stop = pos.stop
        since = Span(self.since, self.stop)
        key_pos = Scattered(self._old, since) if self.since else since
        return (View(self._keys, self._values, key_pos, pos),)

    @abstractmethod
    def _choose(self, pos: Span) -> Array | None:
        """After the step at `pos`: the columns that stay, [G, N] in order; None: all."""

    def commit(self, pos: Span) -> None:
        self.done = pos.stop
        columns = self._choose(pos)
        if columns is not None:
            self._keep(columns)

    def _keep(self, columns: Array) -> None:
        """Let go of all rows but those in each head's `columns` [G, N]."""
        self._old = gather(self.ops, self.positions, columns)
        self._keys, self._values = (gather(self.ops, x, columns) for x in (self._keys, self._values))
        self.since = self.stop

    # What is held

    @property
    def positions(self) -> Array:
        """Of every row held: [G, S] int64."""
        return followed_by(self.ops, self._old, self.since, self.stop)

    @property
    def rows(self) -> int:
        """Rows held, a head."""
        return self._column(self.stop)

    @property
    def keys(self) -> Array:
        return self._keys[:, : self.rows, :]

    @property
    def values(self) -> Array:
        return self._values[:, : self.rows, :]

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)

    @property
    def metadata_bytes(self) -> int:
        """Positions of what is left of the rows before `since`; those after it are in a row, and need none."""
        return int(self._old.shape[1]) * self.shape.n_heads * POSITION_BYTES

    # Operations

    def check_crop(self, length: int) -> None:
        if self.since:
            raise UsageError(
                "the cache {spec} cannot go back to {length} tokens: it has let go of rows by what came after them",
                spec=self.spec,
                length=length,
            )

    @property
    def spec(self) -> str:
        return f"{self.example.partition(':')[0]}:{self.budget}"

    def crop(self, length: int) -> None:
        self.stop = self.done = length

    def state(self) -> State:
        rows = self._column(self.done)
        arrays = {"positions": self._old, "keys": self._keys[:, :rows, :], "values": self._values[:, :rows, :]}
        return State({"since": self.since, "stop": self.done}, arrays)

    def restore(self, state: State) -> None:
        xp, arrays = self.ops.xp, state.arrays
        self.since, self.stop = state.numbers["since"], state.numbers["stop"]
        self.done = self.stop
        self._old = xp.astype(arrays["positions"], xp.int64)
        self._keys, self._values = (xp.astype(arrays[name], self.ops.dtype) for name in ("keys", "values"))


class ScoredLayer(EvictingLayer):
    """Rows with a score each, [G, S], in the type that statistics are computed in: float32 for 16-bit models, else
    the model's own. What a step adds counts when every layer is through."""

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self._scores = self._next = zeros(ops, shape.n_heads, 0)

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Any) -> Fraction:
        """With its score, too."""
        score_bytes = int(ops.xp.finfo(ops.wide_dtype).bits) // 8
        return super().row_bytes(ops, shape, options) + shape.n_heads * score_bytes

    @abstractmethod
    def _begin(self, keys: Array) -> Array:
        """The scores that new rows begin with, [G, T], by their keys [G, T, K] without positions."""

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        held = self._scores[:, : self._column(pos.start)]
        self._next = self.ops.xp.concat([held, self._begin(keys)], axis=1)
        return super().update(keys, values, pos, encode)

    def commit(self, pos: Span) -> None:
        self._scores = self._next
        super().commit(pos)

    def _keep(self, columns: Array) -> None:
        super()._keep(columns)
        self._scores = gather(self.ops, self._scores, columns)

    @property
    def metadata_bytes(self) -> int:
        """Positions and scores."""
        score_bytes = int(self.ops.xp.finfo(self.ops.wide_dtype).bits) // 8
        return super().metadata_bytes + int(self._scores.shape[1]) * self.shape.n_heads * score_bytes

    def crop(self, length: int) -> None:
        super().crop(length)
        self._scores = self._scores[:, : self.rows]

    def state(self) -> State:
        numbers, arrays = super().state()
        return State(numbers, arrays | {"scores": self._scores})

    def restore(self, state: State) -> None:
        super().restore(state)
        self._scores = self._next = self.ops.xp.astype(state.arrays["scores"], self.ops.wide_dtype)
