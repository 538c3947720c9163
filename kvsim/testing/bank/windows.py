"""Mistakes in sliding windows. Window W is the current key and the W - 1 before it."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import CACHED, FIRST, SEVERAL, SINGLE
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rows import Rows


@mistake(
    "window_keeps_one_extra",
    "the window is one too long: window W is the current key and the W - 1 before it",
    "窗口大了 1：窗口 W 是当前键和它前面的 W-1 个",
    (3,),
    window=2,
    twin="ml-explore/mlx-lm#390",
    paths=(SINGLE, SEVERAL, CACHED),
)
class OneExtra(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if inputs.window is None else inputs.window + 1


@mistake(
    "window_keeps_one_less",
    "the window is one too short: window W is the current key and the W - 1 before it",
    "窗口小了 1：窗口 W 是当前键和它前面的 W-1 个",
    (2,),
    window=2,
    paths=(SINGLE, SEVERAL, CACHED),
)
class OneLess(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if inputs.window is None else inputs.window - 1


@mistake(
    "window_ignored_in_decode",
    "a decoded token sees beyond the window: the window applies in every step",
    "解码时没有应用窗口：每一步都应遵守窗口",
    (2, 1),
    window=2,
    twin="karpathy/nanochat#452",
)
class IgnoredInDecode(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if len(inputs.query_pos) == 1 else inputs.window


@variant("window_ignored_in_decode", paths=(SEVERAL,))
class IgnoredOnceCached(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if inputs.fed_before else inputs.window


@mistake(
    "window_ignored",
    "the window is ignored",
    "没有应用窗口",
    (3,),
    window=2,
    paths=(SEVERAL, FIRST),
)
class Ignored(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None


@mistake(
    "window_from_first_query",
    "all queries of a chunk get the window of its first one: each query has a window of its own",
    "一个分块的所有查询都用首个查询的窗口：每个查询应有自己的窗口",
    (3,),
    window=2,
    paths=(CACHED,),
    twin="pytorch/executorch#21857; ml-explore/mlx-lm#1914",
)
class OfFirstQuery(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        query, first, window = inputs.query_pos[t], inputs.query_pos[0], self.window(inputs)
        return (inputs.key_pos <= query) & (inputs.key_pos > first - (np.inf if window is None else window))


@mistake(
    "window_from_last_query",
    "all queries of a chunk get the window of its last one: the first ones do not see all that they should",
    "一个分块的所有查询都用最后一个查询的窗口：前面的查询看不全",
    (3,),
    window=2,
    paths=(CACHED,),
)
class OfLastQuery(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        query, last, window = inputs.query_pos[t], inputs.query_pos[-1], self.window(inputs)
        return (inputs.key_pos <= query) & (inputs.key_pos > last - (np.inf if window is None else window))


@variant("window_from_last_query", paths=(CACHED,))
class OfLastQueryAndItself(OfLastQuery):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) | (inputs.key_pos == inputs.query_pos[t])


@variant("window_from_last_query", paths=(CACHED,))
class OfLastQueryFinite(OfLastQuery):
    """With a finite mask: a query that sees nothing weighs all rows alike."""

    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -1e9)


class Trimmed(Rows):
    """Rows are dropped at the end of a step, and what is left is seen without a window by steps of one token."""

    def window(self) -> int | None:
        return super().window() if self.decoder.step[1] > 1 else None

    def size(self) -> int:
        """The size of the window; of a layer without one, more than any number of rows."""
        return super().window() or 10**9

    def keep(self, kept: slice) -> None:
        self.keys, self.values, self.positions = self.keys[kept], self.values[kept], self.positions[kept]

    def commit(self) -> None:
        self.keep(slice(max(0, len(self.keys) - self.size() + 1), None))


@mistake(
    "window_trimmed_late",
    "rows that have left the window are dropped one step late: the next token still sees them",
    "离开窗口的行晚一步才被丢弃：下一个词元仍看得到它们",
    (2, 1),
    window=2,
)
class TrimmedLate(Trimmed):
    """After a chunk nothing is dropped."""

    def commit(self) -> None:
        if self.decoder.step[1] == 1:
            super().commit()


@mistake(
    "window_trimmed_by_capacity",
    "rows are dropped by the size of the buffer instead of the number of rows in it: the window loses valid rows",
    "按缓冲区的容量而不是其中的行数来丢弃行：窗口丢掉了有效的行",
    (1, 1),
    window=2,
    twin="ml-explore/mlx-lm#1673",
)
class TrimmedByCapacity(Rows):
    """The buffer has a multiple of `block` slots; before a step its last slots, as many as the window, are kept."""

    block = 4

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        capacity, window = -(-len(self.keys) // self.block) * self.block, self.window()
        dropped = 0 if window is None else max(0, capacity - window)
        self.keys, self.values, self.positions = (x[dropped:] for x in (self.keys, self.values, self.positions))
        super().append(start, keys, values)


@variant("window_trimmed_by_capacity")
class TrimmedByCapacityOf8(TrimmedByCapacity):
    block = 8


@mistake(
    "window_evicts_newest",
    "a full window drops its newest row: it must drop the oldest",
    "窗口满时丢弃了最新的行：应丢弃最旧的行",
    (1, 2),
    window=2,
)
class NewestDropped(Trimmed):
    def window(self) -> int | None:
        return super().window() if not self.keys or self.decoder.step[0] == 0 else None

    def commit(self) -> None:
        self.keep(slice(self.size() - 1))


@variant("window_evicts_newest")
class NewestReplaced(NewestDropped):
    """A row of the current step takes the place of the newest."""

    def commit(self) -> None:
        if len(self.keys) >= self.size():
            newest = slice(len(self.keys) - 1, None)
            kept = self.size() - 2
            for name in ("keys", "values", "positions"):
                rows = getattr(self, name)
                setattr(self, name, [*rows[: max(kept, 0)], *(rows[newest] if kept >= 0 else [])])
