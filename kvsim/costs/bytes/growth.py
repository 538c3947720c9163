"""The size of one sequence's cache as a function of its tokens, and the inverse: how many tokens fit.

The bytes are the logical bytes of `kvsim.costs.bytes.memory.measure_held`. A quantised cache shrinks each time another
group of rows is quantised, so a sequence of n tokens needs the largest size on the way there: `peak`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvsim.caches.quantised.options import Options
from kvsim.costs.bytes.memory import SCALE_BYTES, Format, Rows, count_scales


class Growth(NamedTuple):
    """Bytes of one sequence's cache, by what they grow with."""

    fixed: int  # rows of the source
    full: int  # one row in all layers without a window
    windows: tuple[tuple[int, int], ...]  # (most rows, bytes of a row), the narrowest first
    options: Options | None  # of the quantised layers, those without a window; None: none is quantised
    group: int  # `options.group` quantised rows in all layers without a window

    def held(self, tokens: int) -> int:
        """Bytes held after `tokens` tokens."""
        size = self.fixed
        for most, row in self.windows:
            size += row * (tokens if tokens < most else most)
        if self.options is None:
            return size + self.full * tokens
        rows = self.options.quantised(tokens)
        return size + rows // self.options.group * self.group + (tokens - rows) * self.full

    def peak(self, tokens: int) -> int:
        """The most bytes held at any point up to `tokens` tokens."""
        if self.options is None:
            return self.held(tokens)
        group, residual = self.options.group, self.options.residual
        # The cache is largest right before a group is quantised, with group - 1 rows beyond the residual.
        before = (tokens - residual + 1) // group * group + residual - 1
        return max(self.held(tokens), self.held(before) if before > 0 else 0)

    def tokens(self, room: int) -> int | None:
        """The most tokens of one sequence whose `peak` is at most `room` bytes. None: unlimited."""
        if self.options is not None and self.group:
            return self._search(room, self.options)
        left, done, rate = room - self.fixed, 0, self.full + sum(row for _, row in self.windows)
        if left < 0:
            return 0
        for most, row in self.windows:
            step = rate * (most - done)
            if step > left:
                break
            left, done, rate = left - step, most, rate - row
        return done + left // rate if rate else None

    def _search(self, room: int, options: Options) -> int:
        """`tokens` by bisection: `peak` is monotone and close to group / options.group bytes a token."""
        slack = self.fixed + sum(most * row for most, row in self.windows)
        slack += (options.group + options.residual) * self.full
        low = max(0, (room - slack) * options.group // self.group)  # fits
        high = max(0, room) * options.group // self.group + options.group + options.residual + 1  # does not fit
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.peak(middle) <= room else (low, middle)
        return low

    def sequences(self, tokens: int, room: int) -> int | None:
        """The number of sequences of `tokens` tokens that fit in `room` bytes. None: unlimited, they take no bytes."""
        each = self.peak(tokens)
        if room < 0:
            return 0
        return room // each if each else None


def make_growth(all_rows: Sequence[Rows], kept: Format, source: int) -> Growth:
    """The growth of a cache with these layers, in the format `kept`, with `source` encoder positions."""
    options = None if kept.bits is None else kept.options
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
            if options is not None:
                scales = rows.layers * count_scales(options, rows.shape, options.group) * SCALE_BYTES
                group += rows.numbers * options.group * (kept.bits or 0) // 8 + (2 * scales if kept.zero else scales)
    return Growth(fixed, full, tuple(sorted(windows)), options, group)
