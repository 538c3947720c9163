"""How the cache of one sequence grows with its tokens, from few integers; and back: how many tokens fit.

The bytes are those of `kvsim.costs.bytes.memory.measure_held`, logical. A quantised cache shrinks whenever 64 rows
more are quantised, so that what a sequence of n tokens needs is the most that it held on its way there: `peak`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvsim.costs.bytes.memory import GROUP, RESIDUAL, Format, Rows, quantised_rows, scales_of
from kvsim.costs.bytes.memory import SCALE_BYTES as CACHE_SCALE_BYTES


class Growth(NamedTuple):
    """Bytes of one sequence's cache by what they grow with."""

    fixed: int  # rows of the source
    full: int  # of one row of the layers that keep all
    windows: tuple[tuple[int, int], ...]  # (rows at most, bytes of a row), the narrowest first
    group: int | None  # of GROUP quantised rows of the layers that keep all; None: they are not quantised

    def held(self, tokens: int) -> int:
        """Bytes after so many tokens."""
        size = self.fixed
        for most, row in self.windows:
            size += row * (tokens if tokens < most else most)
        if self.group is None:
            return size + self.full * tokens
        rows = quantised_rows(tokens)
        return size + rows // GROUP * self.group + (tokens - rows) * self.full

    def peak(self, tokens: int) -> int:
        """The most bytes on the way to so many tokens."""
        if self.group is None:
            return self.held(tokens)
        # The most rows not quantised yet are GROUP - 1 beyond the residual.
        before = (tokens - RESIDUAL + 1) // GROUP * GROUP + RESIDUAL - 1
        return max(self.held(tokens), self.held(before) if before > 0 else 0)

    def tokens(self, room: int) -> int | None:
        """The most tokens of one sequence that never takes more than `room` bytes. None: it may go on for ever."""
        if self.group:
            return self._search(room)
        left, done, rate = room - self.fixed, 0, self.full + sum(row for _, row in self.windows)
        if left < 0:
            return 0
        for most, row in self.windows:
            step = rate * (most - done)
            if step > left:
                break
            left, done, rate = left - step, most, rate - row
        return done + left // rate if rate else None

    def _search(self, room: int) -> int:
        """The same by halving: `peak` never falls, and is near group / GROUP bytes a token."""
        group = self.group or 1
        slack = self.fixed + sum(most * row for most, row in self.windows) + (GROUP + RESIDUAL) * self.full
        low = max(0, (room - slack) * GROUP // group)  # fits
        high = max(0, room) * GROUP // group + GROUP + RESIDUAL + 1  # does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.peak(middle) <= room else (low, middle)
        return low

    def sequences(self, tokens: int, room: int) -> int | None:
        """How many sequences of so many tokens fit in `room` bytes. None: they take nothing."""
        each = self.peak(tokens)
        if room < 0:
            return 0
        return room // each if each else None


def make_growth(all_rows: Sequence[Rows], kept: Format, source: int) -> Growth:
    """The growth of a cache with these layers."""
    fixed = full = group = 0
    windows = []
    for rows in all_rows:
        row = rows.numbers * kept.item
        if rows.cross:
            fixed += row * source
        elif rows.window is not None:
            windows.append((rows.window - 1, row))
        else:
            full += row
            scales = rows.layers * scales_of(rows.shape, GROUP) * CACHE_SCALE_BYTES
            group += rows.numbers * GROUP * (kept.bits or 0) // 8 + (2 * scales if kept.zero else scales)
    return Growth(fixed, full, tuple(sorted(windows)), None if kept.bits is None else group)
