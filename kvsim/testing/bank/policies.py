"""Mistakes with attention sinks, quantised rows and pages: each is looked for under its own policy."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.independent.attending import Look
from kvsim.testing.independent.rows import PagedRows, QuantisedRows, SinkRows

SINKS, INT8, PAGED = "sinks:1+3", "int8:group=2,residual=1", "paged:2"


@mistake(
    "sink_positions_not_reindexed",
    "rows keep the positions that they had in the text: with sinks, positions are counted inside the cache",
    "行沿用了它们在原文中的位置：有汇聚 token 时，位置应在缓存内重新编号",
    (5,),
    policy=SINKS,
    twin="huggingface/transformers#35350; mit-han-lab/streaming-llm#73",
)
class NotReindexed(SinkRows):
    def numbers(self, seen: list[int]) -> list[int]:
        return seen


@variant("sink_positions_not_reindexed")
class QueryNotReindexed(SinkRows):
    def numbers(self, seen: list[int]) -> list[int]:
        return [*range(len(seen) - 1), seen[-1]]


@variant("sink_positions_not_reindexed")
class KeysNotReindexed(SinkRows):
    def look_from(self, position: int, query: Any) -> Look:
        look, d = super().look_from(position, query), self.decoder
        seen = self.seen_from(position)
        keys = np.stack([d.encode_key(self.layer, self.keys[p], p) for p in seen])
        return look._replace(k_SGK=keys)


@mistake(
    "sinks_evicted",
    "the first tokens were let go: with sinks, they stay for ever",
    "最前面的 token 被淘汰了：汇聚 token 应一直保留",
    (4,),
    policy=SINKS,
)
class WindowOnly(SinkRows):
    def seen_from(self, position: int) -> list[int]:
        return list(range(max(0, position + 1 - self.options[1]), position + 1))


@variant("sinks_evicted")
class LongerWindowOnly(SinkRows):
    def seen_from(self, position: int) -> list[int]:
        return list(range(max(0, position + 1 - sum(self.options)), position + 1))


@mistake(
    "quantised_scale_axis",
    "scales are shared along the wrong axis: keys have one for each channel, values one for each token",
    "量化比例共用的轴不对：键应每个通道一个，值应每个 token 一个",
    (3, 1),
    policy=INT8,
)
class KeysByToken(QuantisedRows):
    def pack_keys(self, x: Any) -> Any:
        return self.by_token(x)


@variant("quantised_scale_axis")
class ValuesByChannel(QuantisedRows):
    def pack_values(self, x: Any) -> Any:
        return self.by_channel(x)


@variant("quantised_scale_axis")
class Swapped(KeysByToken, ValuesByChannel):
    pass


@mistake(
    "quantised_truncates",
    "numbers are cut off, not rounded to the nearest, when they are quantised",
    "量化时直接截断，而不是四舍五入到最近的数",
    (3, 1),
    policy=INT8,
)
class Truncated(QuantisedRows):
    def round(self, x: Any) -> Any:
        return np.trunc(x)


@variant("quantised_truncates")
class Floored(QuantisedRows):
    def round(self, x: Any) -> Any:
        return np.floor(x)


@mistake(
    "quantised_twice",
    "rows that were quantised are read back and quantised again with the new ones: their error grows with every step",
    "已量化的行被还原后又和新行一起重新量化：误差逐步累积",
    (5, 1),
    policy=INT8,
    twin="huggingface/transformers#34189",
)
class AllAgain(QuantisedRows):
    def quantise(self, first: int, stop: int) -> None:
        super().quantise(0, stop)


@variant("quantised_twice")
class AllInOneGroup(QuantisedRows):
    """All whole groups at once, as often as one is full."""

    def commit(self) -> None:
        group, residual = self.options
        stop = max(0, (len(self.keys) - residual) // group * group)
        if stop > self.done:
            self.quantise(0, stop)
        self.done = max(self.done, stop)


@mistake(
    "paged_logical_used_as_physical",
    "a block's number in the sequence is used as its number in the pool: look it up in the block table",
    "把序列内的块号当成内存池里的块号：应查块表",
    (1,),
    policy=PAGED,
)
class NoTable(PagedRows):
    def physical(self, block: int) -> int:
        return block


@variant("paged_logical_used_as_physical")
class NoTableJunk(NoTable):
    junk = 1.0


@mistake(
    "paged_stale_tail",
    "the whole of the last block is read: places after the sequence's end hold nothing that counts",
    "把最后一块整块读出：序列末尾之后的位置不该读取",
    (1,),
    policy=PAGED,
)
class WholeBlocks(PagedRows):
    def read_count(self) -> int:
        return len(self.table) * int(self.options)

    def row_positions(self, count: int) -> Any:
        return np.where(np.arange(count) < self.count, np.arange(count), 0)


@variant("paged_stale_tail")
class WholeBlocksJunk(WholeBlocks):
    junk = 1.0


@mistake(
    "paged_freed_block_reused",
    "a block is given out again while it is still in the table: new rows overwrite old ones",
    "一个仍在块表中的块又被分配出去：新行覆盖了旧行",
    (3,),
    policy=PAGED,
)
class FirstBlockAgain(PagedRows):
    def take_block(self) -> int:
        return self.table[0] if self.table else super().take_block()


@variant("paged_freed_block_reused")
class FirstBlockAgainLater(PagedRows):
    def take_block(self) -> int:
        return int(self.table[0]) if len(self.table) == 2 else super().take_block()
