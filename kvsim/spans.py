"""Positions, and what a cache answers with: keys and values that carry theirs."""

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
    """Rows of which some have been let go: what is left of the old ones, then the new ones in a row."""

    old: Any  # their positions, all before `new`, on the device: [S'], or [G, S'] where each head keeps its own
    new: Span

    @property
    def size(self) -> int:
        return int(self.old.shape[-1]) + self.new.size


Keys = Span | Scattered  # where keys stand


class View(NamedTuple):
    """What the queries of one step may look at, in one layer of one sequence.

    keys [G, S, K] are encoded (rotated) already; values [G, S, K]. Row s of both stands at position
    `key_pos.start + s` (or where `Scattered` says), query t at `query_pos.start + t`: the mask compares these, never
    indices.
    """

    keys: Any
    values: Any
    key_pos: Keys
    query_pos: Span
    window: int | None = None  # the policy's own: each query sees so many positions, itself the last of them
    parts: tuple[tuple[slice, "View"], ...] | None = None  # where queries of one step see different rows
    observer: Callable[[Any, Any], None] | None = None

    def observe(self, queries: Any, probs: Any) -> None:
        """Where a policy that evicts by attention score looks, at queries [G, R, T, K] and probabilities
        [G, R, T, S]; every other does nothing."""
        if self.observer is not None:
            self.observer(queries, probs)


def narrower(one: int | None, other: int | None) -> int | None:
    """The smaller of two windows; None is none."""
    return other if one is None else one if other is None else min(one, other)


def admitted_pairs(query_pos: Span, key_pos: Keys, window: int | None = None) -> int:
    """How many (query, key) pairs a causal mask admits: key position <= query position, and above
    query position - window where there is one. Of scattered rows every query sees all the old ones.

    >>> admitted_pairs(Span(4, 7), Span(0, 7))  # 5 + 6 + 7
    18
    >>> admitted_pairs(Span(4, 7), Span(0, 7), window=4)
    12
    """
    if isinstance(key_pos, Scattered):
        old = query_pos.size * (key_pos.size - key_pos.new.size)
        return old + admitted_pairs(query_pos, key_pos.new)

    def below(stop: int) -> int:  # the sum over i < stop of i, held between 0 and the number of keys
        ramp = max(0, min(stop, key_pos.size))
        return ramp * (ramp - 1) // 2 + key_pos.size * max(0, stop - key_pos.size)

    def seen(first: int) -> int:  # pairs when the first query sees `first` keys, unbounded, the next one more
        return below(first + query_pos.size) - below(first)

    first = query_pos.start + 1 - key_pos.start
    return seen(first) - (0 if window is None else seen(first - window))
