"""Base classes of the policies that evict rows by a score. Each head keeps rows of its own, at their true positions.

Rows are in order of position: first the N rows kept of those before position `since` (their positions are [G, N]), then
every row from `since` on. After each step the policy chooses the columns to keep.
"""

from abc import abstractmethod
from fractions import Fraction
from typing import Any, ClassVar

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, array_bytes, check_numbers, read_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Scattered, Span, View

POSITION_BYTES = 8  # int64


def gather(ops: Ops, x: Array, columns: Array) -> Array:
    """The entries of x, [G, S] or [G, S, K], in each head's columns [G, N]: [G, N] or [G, N, K]."""
    xp, (g, s, *rest) = ops.xp, x.shape
    places = columns + ops.arange(0, g)[:, None] * s  # indices into the rows of all heads, for `take`
    taken = xp.take(xp.reshape(x, (g * s, *rest)), xp.reshape(places, (-1,)), axis=0)
    return xp.reshape(taken, (g, columns.shape[1], *rest))


def followed_by(ops: Ops, columns: Array, start: int, stop: int) -> Array:
    """Each head's columns [G, N], then start .. stop - 1: [G, N + stop - start]."""
    last = ops.xp.broadcast_to(ops.arange(start, stop)[None, :], (columns.shape[0], stop - start))
    return ops.xp.concat([columns, last], axis=1)


def zeros(ops: Ops, n_heads: int, count: int) -> Array:
    """Zeros [n_heads, count] in `ops.wide_dtype`."""
    return ops.xp.zeros_like(ops.xp.empty((n_heads, count), dtype=ops.wide_dtype, device=ops.device))


def attention_received(ops: Ops, probs: Array, n_heads: int) -> Array:
    """Attention probabilities summed over the queries and over the query heads that read each head of the cache:
    [n_heads, S], in `ops.wide_dtype`.

    `probs` is [G, R, T, S]; for latent attention, whose heads share one row, [H, 1, T, S] with n_heads = 1.
    """
    xp = ops.xp
    g, r, t, s = probs.shape
    flat = xp.reshape(probs, (n_heads, g // n_heads * r * t, s))
    return xp.sum(xp.astype(flat, ops.wide_dtype, copy=False), axis=1)


class EvictingLayer(LayerCache):
    """At most `budget` rows a head after a step that evicts; `_choose` chooses the rows to keep."""

    lossless = False
    smallest: ClassVar[int] = 1  # the smallest budget

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self.budget: int = options
        self.since, self.stop = 0, 0
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
                "the budget of the cache {spec} exceeds the model's context of {context} tokens, so no row would ever"
                " be evicted: use a smaller budget, or dynamic",
                spec=spec,
                context=config.max_context,
            )
        if config.buckets is not None:
            raise UsageError(
                "the cache {spec} keeps different positions in each head, but this model's relative position biases"
                " need the same positions in every head: use dynamic or window:{window}",
                spec=spec,
                window=options,
            )

    @classmethod
    def is_lossless(cls, config: Config, options: int) -> bool:
        return all(kind.window is not None for kind in config.layers)  # such layers are WindowLayers

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Any) -> Fraction:
        """With its position, which is stored once a row before it has been evicted."""
        return super().row_bytes(ops, shape, options) + shape.n_heads * POSITION_BYTES

    # Called by attention and by `Cache`

    def _column(self, position: int) -> int:
        """The column of a position of at least `since`."""
        return int(self._old.shape[1]) + position - self.since

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
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
        """The columns to keep after the step at `pos`, [G, N] in ascending order. None: all."""

    def commit(self, pos: Span) -> None:
        columns = self._choose(pos)
        if columns is not None:
            self._keep(columns)

    def _keep(self, columns: Array) -> None:
        """Evicts all rows but those in each head's `columns` [G, N]."""
        self._old = gather(self.ops, self.positions, columns)
        self._keys, self._values = (gather(self.ops, x, columns) for x in (self._keys, self._values))
        self.since = self.stop

    # Contents and bytes

    @property
    def positions(self) -> Array:
        """The position of every row held: [G, S], int64."""
        return followed_by(self.ops, self._old, self.since, self.stop)

    @property
    def held_positions(self) -> Array:
        return self.positions

    @property
    def rows(self) -> int:
        """Number of rows stored for each head."""
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
        """Positions of the rows before `since`; those from it on are contiguous and need none."""
        return int(self._old.shape[1]) * self.shape.n_heads * POSITION_BYTES

    # Operations

    def check_crop(self, length: int) -> None:
        if self.since:
            raise UsageError(
                "the cache {spec} cannot be cropped to {length} tokens: later tokens decided which rows it evicted",
                spec=self.spec,
                length=length,
            )

    @property
    def spec(self) -> str:
        return f"{self.example.partition(':')[0]}:{self.budget}"

    def crop(self, length: int) -> None:
        self.stop = length

    def state(self) -> State:
        arrays = {"positions": self._old, "keys": self.keys, "values": self.values}
        return State({"since": self.since, "stop": self.stop}, arrays)

    def restore(self, state: State) -> None:
        xp, arrays = self.ops.xp, state.arrays
        self.since, self.stop = state.numbers["since"], state.numbers["stop"]
        self._old = xp.astype(arrays["positions"], xp.int64)
        self._keys, self._values = (xp.astype(arrays[name], self.ops.dtype) for name in ("keys", "values"))

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """Before the first eviction `since` is 0; each leaves `budget` rows, of more."""
        since = numbers.get("since", -1)
        if since != 0 and not self.budget < since <= seen:
            raise ValueError(Words("rows were evicted before position {since}", since=shortened(since)))
        check_numbers(numbers, {"since": since, "stop": seen})
        old = self.budget if since else 0
        return {"positions": (self.shape.n_heads, old), **self._shapes(old + seen - since)}

    def check_arrays(self, state: State) -> None:
        """Each head's positions ascend, and every policy keeps the newest row."""
        positions, since = state.arrays["positions"], state.numbers["since"]
        if not since:
            return
        ascending = bool((positions[:, 1:] > positions[:, :-1]).all())
        if not (ascending and bool((positions[:, 0] >= 0).all()) and bool((positions[:, -1] == since - 1).all())):
            raise ValueError(Words("positions are not in order from 0 to {last}", last=since - 1))


class ScoredLayer(EvictingLayer):
    """Rows with a score each, [G, S], in `ops.wide_dtype` (float32 for 16-bit models, else the model's dtype). `_next`
    holds the scores of a running step until `commit`."""

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self._scores = self._next = zeros(ops, shape.n_heads, 0)

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Any) -> Fraction:
        """With its score in addition."""
        score_bytes = int(ops.xp.finfo(ops.wide_dtype).bits) // 8
        return super().row_bytes(ops, shape, options) + shape.n_heads * score_bytes

    @abstractmethod
    def _begin(self, keys: Array) -> Array:
        """Initial scores of new rows, [G, T], from their keys [G, T, K] without positions."""

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

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """Rows are evicted after every step that leaves more than `budget`."""
        shapes = super().expect(seen, numbers)
        g, rows, _ = shapes["keys"]
        if rows > self.budget:
            raise ValueError(Words("{rows} rows of at most {most}", rows=rows, most=self.budget))
        return {**shapes, "scores": (g, rows)}
