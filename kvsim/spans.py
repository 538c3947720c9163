"""Positions, and what a cache returns to attention: keys and values with their positions."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Span(NamedTuple):
    """The contiguous positions start, start + 1, ... stop - 1."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class Scattered(NamedTuple):
    """Positions of keys after an eviction: those kept of the older ones, then a contiguous span."""

    old: (
        Any  # positions of the older keys, all before `new`, on the device: [S'], or [G, S'] if each head keeps its own
    )
    new: Span

    @property
    def size(self) -> int:
        return int(self.old.shape[-1]) + self.new.size


Keys = Span | Scattered  # positions of keys
ALL_QUERIES = slice(None)


class View(NamedTuple):
    """Keys and values for `queries`, some or all of a step's T queries, in one layer of one sequence.

    keys and values are [G, S, K], the keys with their positions already encoded (rotated). Row s of both has position
    `key_pos.start + s` (or that of `Scattered`), query t of `queries` has `query_pos.start + t`. The mask compares
    these positions, never indices.
    """

    keys: Any
    values: Any
    key_pos: Keys
    query_pos: Span
    window: int | None = None  # the policy's own: each query sees `window` positions, its own the last of them
    queries: slice = ALL_QUERIES  # which of the step's T queries
    observer: Callable[[Any, Any], None] | None = None

    def observe(self, queries: Any, probs: Any) -> None:
        """Passes queries [G, R, T, K] and probabilities [G, R, T, S] to a policy that evicts by attention score; does
        nothing under any other policy."""
        if self.observer is not None:
            self.observer(queries, probs)


def narrower(one: int | None, other: int | None) -> int | None:
    """The smaller of two windows. None: no window."""
    return other if one is None else one if other is None else min(one, other)


def admitted_pairs(query_pos: Span, key_pos: Keys, window: int | None = None) -> int:
    """Number of (query, key) pairs that a causal mask admits: key position <= query position and, with a window,
    key position > query position - window. Every query sees all `old` keys of a `Scattered`.

    >>> admitted_pairs(Span(4, 7), Span(0, 7))  # 5 + 6 + 7
    18
    >>> admitted_pairs(Span(4, 7), Span(0, 7), window=4)
    12
    """
    if isinstance(key_pos, Scattered):
        old = query_pos.size * (key_pos.size - key_pos.new.size)
        return old + admitted_pairs(query_pos, key_pos.new)

    def below(stop: int) -> int:  # the sum over i < stop of i, clipped to the range from 0 to the number of keys
        ramp = max(0, min(stop, key_pos.size))
        return ramp * (ramp - 1) // 2 + key_pos.size * max(0, stop - key_pos.size)

    def seen(first: int) -> int:  # pairs if the first query sees `first` keys (clipped), the second one more, ...
        return below(first + query_pos.size) - below(first)

    first = query_pos.start + 1 - key_pos.start
    return seen(first) - (0 if window is None else seen(first - window))
