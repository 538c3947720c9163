"""Positions, and what a cache answers with: keys and values that carry theirs."""

from typing import Any, NamedTuple


class Span(NamedTuple):
    """The contiguous positions start, start + 1, ... stop - 1."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class View(NamedTuple):
    """What the queries of one step may look at, in one layer of one sequence.

    keys [G, S, K] are encoded (rotated) already; values [G, S, K]. Row s of both stands at position
    `key_pos.start + s`, query t at `query_pos.start + t`: the mask compares these, never indices.
    """

    keys: Any
    values: Any
    key_pos: Span
    query_pos: Span

    def observe(self, queries: Any, probs: Any) -> None:
        """Where a policy that evicts by attention score would look; every other does nothing."""


def admitted_pairs(query_pos: Span, key_pos: Span, window: int | None = None) -> int:
    """How many (query, key) pairs a causal mask admits: key position <= query position, and above
    query position - window where there is one.

    >>> admitted_pairs(Span(4, 7), Span(0, 7))  # 5 + 6 + 7
    18
    >>> admitted_pairs(Span(4, 7), Span(0, 7), window=4)
    12
    """

    def below(stop: int) -> int:  # the sum over i < stop of i, held between 0 and the number of keys
        ramp = max(0, min(stop, key_pos.size))
        return ramp * (ramp - 1) // 2 + key_pos.size * max(0, stop - key_pos.size)

    def seen(first: int) -> int:  # pairs when the first query sees `first` keys, unbounded, the next one more
        return below(first + query_pos.size) - below(first)

    first = query_pos.start + 1 - key_pos.start
    return seen(first) - (0 if window is None else seen(first - window))
