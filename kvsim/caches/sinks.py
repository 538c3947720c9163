"""`sinks:S+W`: attention sinks. Each query sees the first S tokens and the last W, its own included, at positions
inside the cache (StreamingLLM, arXiv:2309.17453, section 3.2).

The n rows that a query sees have positions 0 .. n - 1 in order, and the query has position n - 1, so no distance
exceeds S + W however long the text is. Keys are therefore stored without positions and encoded each time they are read.
This holds for each query by itself, so the split of the tokens into steps changes nothing (except with rotary
frequencies that depend on the length, among the first S + W tokens).
"""

import re
from typing import Any, NamedTuple

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, Waste, array_bytes, check_numbers
from kvsim.checks import parse_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Span, View


class Ends(NamedTuple):
    """Numbers of tokens that a query sees at the two ends of the text."""

    first: int  # the sinks
    last: int  # the window, the query's own token included

    @property
    def size(self) -> int:
        return self.first + self.last


class SinksLayer(LayerCache):
    """Rows of the sinks, then of the positions `start` .. `stop` - 1, which include those that the next query sees.

    Rows that leave the window are evicted by the next update only. `keys` are not encoded, because their positions
    change from query to query.
    """

    example = "sinks:4+252"
    promise = Words("the first S tokens and the last W of each query, at positions inside the cache")
    paper = "arXiv:2309.17453"
    lossless = False
    encodes_on_read = True

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self.ends: Ends = options
        self.start, self.stop = self.ends.first, 0
        g, k, v = shape
        self._keys: Array = ops.xp.empty((g, 0, k), dtype=ops.dtype, device=ops.device)
        self._values: Array = ops.xp.empty((g, 0, v), dtype=ops.dtype, device=ops.device)

    @classmethod
    def read_options(cls, name: str, text: str) -> Ends:
        found = re.fullmatch(r"([0-9]+)\+([0-9]+)", text)
        first, last = (parse_whole(name, number) for number in found.groups()) if found else (0, 0)
        if first == 0 and last > 0:
            raise UsageError(
                "the cache {spec} has no sinks: use window:{window}", spec=shortened(f"{name}:{text}"), window=last
            )
        if last == 0:
            raise UsageError(
                "the cache {name} needs its sinks and its window in tokens, each at least 1, as in {example},"
                " not {spec}",
                name=name,
                example=cls.example,
                spec=shortened(f"{name}:{text}" if text else name),
            )
        return Ends(first, last)

    @classmethod
    def print_options(cls, options: Ends) -> str:
        return f"{options.first}+{options.last}"

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: Ends) -> None:
        if config.learned_positions:
            raise UsageError(
                "the cache {spec} encodes positions each time it reads keys, but this model adds learned positions to"
                " the embeddings: use window:{window}",
                spec=spec,
                window=options.size,
            )

    @classmethod
    def is_lossless(cls, config: Config, options: Ends) -> bool:
        return all(kind.window is not None for kind in config.layers)  # such layers are WindowLayers

    # Rows by position

    def _column(self, position: int) -> int:
        """The column of a position whose row is held."""
        return position if position < self.ends.first else self.ends.first + position - self.start

    def _first(self, stop: int) -> int:
        """The first position after the sinks that a query at `stop` sees."""
        return max(self.ends.first, stop + 1 - self.ends.last)

    def _seen(self, x: Array, stop: int) -> Array:
        """The rows before `stop` that a query at `stop` sees, of keys or values."""
        n_sinks, first = min(self.ends.first, stop), self._first(stop)
        if stop <= first:
            return x[:, :n_sinks, :]
        if first == self.start:
            return x[:, : self._column(stop), :]
        return self.ops.xp.concat([x[:, :n_sinks, :], x[:, self._column(first) : self._column(stop), :]], axis=1)

    # Called by attention and by `Cache`

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View, ...]:
        xp = self.ops.xp
        self._keys = xp.concat([self._seen(self._keys, pos.start), keys], axis=1)
        self._values = xp.concat([self._seen(self._values, pos.start), values], axis=1)
        self.start, self.stop = self._first(pos.start), pos.stop
        views = []
        crowded = max(pos.start, min(pos.stop, self.ends.size))  # the first query that does not see all rows before it
        if pos.start < crowded:
            view = self._whole(pos.start, crowded, encode)
            views.append(view._replace(queries=slice(0, crowded - pos.start)))
        for position in range(crowded, pos.stop):
            at = position - pos.start
            views.append(self._inside(position, encode)._replace(queries=slice(at, at + 1)))
        return tuple(views)

    def _whole(self, start: int, stop: int, encode: Encode) -> View:
        """The view of the queries `start` .. `stop` - 1, which see all rows before them, at their true positions."""
        everything = Span(0, stop)
        keys, values = encode(self._keys[:, :stop, :], self._values[:, :stop, :], everything)
        return View(keys, values, everything, Span(start, stop))

    def _inside(self, position: int, encode: Encode) -> View:
        """The view of one query at a position of at least S + W: S + W rows, of which the query's is the last."""
        size = self.ends.size
        held = self._with_itself(self._keys, position), self._with_itself(self._values, position)
        return View(*encode(*held, Span(0, size)), Span(0, size), Span(size - 1, size))

    def _with_itself(self, x: Array, position: int) -> Array:
        """The rows that the query at `position` sees, its own included: [G, S + W, K]."""
        first, stop = self._column(position + 1 - self.ends.last), self._column(position) + 1
        if first == self.ends.first:
            return x[:, :stop, :]
        return self.ops.xp.concat([x[:, : self.ends.first, :], x[:, first:stop, :]], axis=1)

    # Contents and bytes

    @property
    def held_positions(self) -> tuple[Span, ...]:
        first = self._first(self.stop)
        sinks = Span(0, min(self.ends.first, self.stop))
        return (sinks, Span(first, self.stop)) if first < self.stop else (sinks,)

    @property
    def keys(self) -> Array:
        return self._seen(self._keys, self.stop)

    @property
    def values(self) -> Array:
        return self._seen(self._values, self.stop)

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)

    @property
    def waste(self) -> Waste:
        """Rows between the sinks and the window, which no later query sees."""
        return Waste(external=self.allocated_bytes - self.logical_bytes)

    # Operations

    def check_crop(self, length: int) -> None:
        if self._first(length) < self.start:
            raise UsageError(
                "the cache {spec} cannot be cropped to {length} tokens: rows that the next query would see have been"
                " evicted",
                spec=f"sinks:{self.print_options(self.options)}",
                length=length,
            )

    def crop(self, length: int) -> None:
        self.stop = length

    def state(self) -> State:
        return State({"start": self._first(self.stop), "stop": self.stop}, {"keys": self.keys, "values": self.values})

    def restore(self, state: State) -> None:
        self.start, self.stop = state.numbers["start"], state.numbers["stop"]
        self._keys, self._values = (
            self.ops.xp.astype(state.arrays[name], self.ops.dtype) for name in ("keys", "values")
        )

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        start = self._first(seen)
        check_numbers(numbers, {"start": start, "stop": seen})
        return self._shapes(min(self.ends.first, seen) + max(seen - start, 0))
