"""Mistakes in attention sinks, quantised caches and paged caches, each tried under its own policy only."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.rows import PagedRows, QuantisedRows, SinkRows

SINKS, INT8, PAGED = "sinks:1+3", "int8:group=2,residual=1", "paged:2"


@mistake(
    "sink_positions_not_reindexed",
    "rows keep the positions that they had in the text: with sinks, positions are counted inside the cache",
    "各行沿用了在原文中的位置：有注意力汇时，位置应在缓存内重新编号",
    (5,),
    policy=SINKS,
    twin="huggingface/transformers#35350; mit-han-lab/streaming-llm#73",
)
class NotReindexed(SinkRows):
    def rotary_positions(self, seen: list[int]) -> list[int]:
        return seen


@variant("sink_positions_not_reindexed")
class QueryNotReindexed(SinkRows):
    def rotary_positions(self, seen: list[int]) -> list[int]:
        return [*range(len(seen) - 1), seen[-1]]


@variant("sink_positions_not_reindexed")
class KeysNotReindexed(SinkRows):
    def inputs_at(self, position: int, query: Any) -> AttentionInputs:
        inputs, d = super().inputs_at(position, query), self.decoder
        seen = self.visible_positions(position)
        keys = np.stack([d.encode_key(self.layer, self.keys[p], p) for p in seen])
        return inputs._replace(k_SGK=keys)


@mistake(
    "sinks_evicted",
    "the first tokens are evicted: attention sinks must stay in the cache",
    "最前面的词元被驱逐了：注意力汇应一直保留在缓存中",
    (4,),
    policy=SINKS,
)
class WindowOnly(SinkRows):
    def visible_positions(self, position: int) -> list[int]:
        return list(range(max(0, position + 1 - self.options[1]), position + 1))


@variant("sinks_evicted")
class LongerWindowOnly(SinkRows):
    def visible_positions(self, position: int) -> list[int]:
        return list(range(max(0, position + 1 - sum(self.options)), position + 1))


@mistake(
    "quantised_scale_axis",
    "scales are shared along the wrong axis: keys have one for each channel, values one for each token",
    "缩放共用的轴不对：键应每个通道一个，值应每个词元一个",
    (3, 1),
    policy=INT8,
)
class KeysByToken(QuantisedRows):
    def pack_keys(self, x: Any) -> Any:
        return self.per_token(x)


@variant("quantised_scale_axis")
class ValuesByChannel(QuantisedRows):
    def pack_values(self, x: Any) -> Any:
        return self.per_channel(x)


@variant("quantised_scale_axis")
class Swapped(KeysByToken, ValuesByChannel):
    pass


@mistake(
    "quantised_truncates",
    "quantisation truncates: it must round to the nearest number",
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
    "quantised_not_at_all",
    "rows are not quantised: they come back as they were, or rounded to a floating point format",
    "没有量化：读回的行与原来相同，或只舍入到某种浮点格式",
    (3, 1),
    policy=INT8,
)
class NotQuantised(QuantisedRows):
    def round_trip(self, x: Any) -> Any:
        return x


@variant("quantised_not_at_all")
class OnlyFloat16(QuantisedRows):
    def round_trip(self, x: Any) -> Any:
        return x.astype(np.float16).astype(np.float64)


@mistake(
    "quantised_wrong_group",
    "scales are shared by groups of another size than was asked for",
    "缩放共用的分组大小与要求的不同",
    (3, 1),
    policy=INT8,
    twin="rajveer43/VeloxQuant-MLX#162",
)
class GroupsOfOne(QuantisedRows):
    """A scale for every number."""

    def round_trip(self, x: Any) -> Any:
        return super().round_trip(x[..., None])[..., 0]


@variant("quantised_wrong_group")
class ValuesByRow(QuantisedRows):
    """Values with one scale for all channels of a row."""

    def per_token(self, x: Any) -> Any:
        return self.round_trip(x)


@mistake(
    "quantised_twice",
    "quantised rows are dequantised and quantised again together with new ones: the error grows with every step",
    "已量化的行还原后又与新行一起重新量化：误差逐步累积",
    (5, 1),
    policy=INT8,
    twin="huggingface/transformers#34189",
)
class RequantisedAll(QuantisedRows):
    def quantise(self, first: int, stop: int) -> None:
        super().quantise(0, stop)


@variant("quantised_twice")
class RequantisedInOneGroup(QuantisedRows):
    """All whole groups as one, each time a group is complete."""

    def commit(self) -> None:
        group, residual = self.options
        stop = max(0, (len(self.keys) - residual) // group * group)
        if stop > self.n_quantised:
            self.quantise(0, stop)
        self.n_quantised = max(self.n_quantised, stop)


@mistake(
    "paged_logical_used_as_physical",
    "a logical block number is used as the physical one: look it up in the block table",
    "把逻辑块号当成物理块号：应查块表",
    (1,),
    policy=PAGED,
)
class NoTable(PagedRows):
    def physical_block(self, block: int) -> int:
        return block


@variant("paged_logical_used_as_physical")
class NoTableFilled(NoTable):
    fill = 1.0


@mistake(
    "paged_stale_tail",
    "the last block is read to its end: slots after the end of the sequence hold no valid rows",
    "把最后一块整块读出：序列末尾之后的槽位没有有效的行",
    (1,),
    policy=PAGED,
)
class WholeBlocks(PagedRows):
    def n_read(self) -> int:
        return len(self.table) * int(self.options)

    def row_positions(self, count: int) -> Any:
        return np.where(np.arange(count) < self.count, np.arange(count), 0)


@variant("paged_stale_tail")
class WholeBlocksFilled(WholeBlocks):
    fill = 1.0


@mistake(
    "paged_freed_block_reused",
    "a block is allocated again while it is still in the block table: new rows overwrite old ones",
    "一个仍在块表中的块又被分配出去：新行覆盖了旧行",
    (3,),
    policy=PAGED,
)
class FirstBlockAgain(PagedRows):
    def allocate_block(self) -> int:
        return self.table[0] if self.table else super().allocate_block()


@variant("paged_freed_block_reused")
class FirstBlockAgainLater(PagedRows):
    def allocate_block(self) -> int:
        return int(self.table[0]) if len(self.table) == 2 else super().allocate_block()
