"""Mistakes in what is done to caches between steps: cropped, as speculative decoding does, and forked.

They are tried by `kvsim.testing.assert_edits`, with scripts of steps and edits instead of feeds.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.rings import Ring
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows


class Counted(Rows):
    """Rows that have no positions of their own: the last one read is the newest token, and so on backwards."""

    added = 0

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        super().append(start, keys, values)
        self.added = len(keys)

    def read(self, start: int) -> Any:
        stop = start + self.added
        return self.keys, self.values, np.arange(stop - len(self.keys), stop)

    def crop(self, length: int) -> None:
        self.keys, self.values, self.positions = self.keys[:length], self.values[:length], self.positions[:length]


COUNTED = POLICIES | {"dynamic": Counted}


@mistake(
    "crop_keeps_one_too_many",
    "cropping keeps one row too many: the row after the new end is still seen",
    "裁剪后多留了一行：新末尾之后的那一行仍看得到",
    (1,),
    edits="crop",
)
class OneTooMany(Decoder):
    def crop(self, length: int) -> None:
        for rows in self.rows:
            rows.crop(length + 1)
        self.seen = length


@variant("crop_keeps_one_too_many")
class OneTooManyCounted(OneTooMany):
    caches = COUNTED


@mistake(
    "crop_zero_keeps_all",
    "cropping to 0 tokens keeps all of them (rows[:-0], or a 0 that is taken for no argument)",
    "裁剪到 0 个词元时全部保留（rows[:-0]，或把 0 当成没有参数）",
    (1,),
    edits="crop",
    twin="huggingface/transformers#47433",
)
class ZeroKeepsAll(Decoder):
    def crop(self, length: int) -> None:
        if length:
            super().crop(length)


@variant("crop_zero_keeps_all")
class ZeroKeepsRows(Decoder):
    def crop(self, length: int) -> None:
        for rows in self.rows:
            rows.crop(length or self.seen)
        self.seen = length


@variant("crop_zero_keeps_all")
class ZeroKeepsRowsCounted(ZeroKeepsRows):
    caches = COUNTED


@mistake(
    "crop_keeps_rows",
    "cropping sets the length back and leaves the rows: they are still seen",
    "裁剪时只改小了长度，没有删掉行：它们仍看得到",
    (1,),
    edits="crop",
)
class RowsStay(Decoder):
    def crop(self, length: int) -> None:
        self.seen = length


@variant("crop_keeps_rows")
class RowsStayCounted(RowsStay):
    caches = COUNTED


@mistake(
    "crop_keeps_positions",
    "cropping removes rows and leaves the length: positions go on from where they were",
    "裁剪时删掉了行，没有改小长度：位置仍从原处接着编号",
    (2,),
    edits="crop",
)
class LengthStays(Decoder):
    def crop(self, length: int) -> None:
        for rows in self.rows:
            rows.crop(length)


@variant("crop_keeps_positions")
class LengthStaysCounted(LengthStays):
    caches = COUNTED


class RingThatLost(Ring):
    def crop(self, length: int) -> None:
        self.held = {slot: row for slot, row in self.held.items() if row[0] < length}


@mistake(
    "ring_rolled_back",
    "a ring buffer that has wrapped is cropped: the rows that the rejected ones overwrote are lost",
    "已回绕的环形缓冲被裁剪：被拒绝的行所覆盖的旧行已丢失",
    (3,),
    window=2,
    edits="crop",
    twin="ml-explore/mlx-swift-lm#424; ml-explore/mlx-swift-lm#584",
)
class RolledBack(Decoder):
    caches = POLICIES | {"dynamic": RingThatLost}


class RowsThatLost(RingThatLost):
    """The W - 1 rows that the next token needs are kept."""

    def put(self, rows: list[tuple[int, Any, Any]]) -> None:
        kept = (self.window() or 10**9) - 1
        every = [*self.held.values(), *rows]
        self.held = {row[0]: row for row in every[max(len(every) - kept, 0) :]}


@variant("ring_rolled_back")
class RowsRolledBack(Decoder):
    caches = POLICIES | {"dynamic": RowsThatLost}


@mistake(
    "fork_not_copied",
    "a fork is the same cache: what is fed to one is seen by the other",
    "分叉得到的是同一个缓存：喂给一方的词元另一方也看得到",
    (1,),
    edits="fork",
)
class NotCopied(Decoder):
    def fork(self) -> Self:
        return self


@variant("fork_not_copied")
class RowsNotCopied(Decoder):
    """Only the number of tokens is each one's own."""

    def fork(self) -> Self:
        return copy.copy(self)


@variant("fork_not_copied")
class RowsNotCopiedCounted(RowsNotCopied):
    caches = COUNTED


def reorder_rightly(beams: list[Any], order: Sequence[int]) -> list[Any]:
    """Decoders with rows of their own, whatever a fork has."""
    return [Decoder.fork(beams[i]) for i in order]


for _cls in (NotCopied, RowsNotCopied, RowsNotCopiedCounted):  # where beams are copied by other code
    _body = {"reorder": staticmethod(reorder_rightly)}
    variant("fork_not_copied")(type(_cls.__name__ + "ButReordered", (_cls,), _body))


class SharedRows(Rows):
    """Slots are shared with forks, and the length is not."""

    def __init__(self, decoder: Any, layer: int, options: Any = None) -> None:
        super().__init__(decoder, layer, options)
        self.slots: list[Any] = []

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.slots[start : start + len(keys)] = list(zip(keys, values, strict=True))
        self.positions = list(range(start + len(keys)))

    def read(self, start: int) -> Any:
        rows = self.slots[: len(self.positions)]
        return [key for key, _ in rows], [value for _, value in rows], np.array(self.positions)


@mistake(
    "fork_shares_tail",
    "a fork writes to the slots of the cache that it was forked from: one overwrites the other's new rows",
    "分叉出的缓存写入原缓存的槽位：一方覆盖了另一方的新行",
    (1,),
    edits="fork",
    twin="Avarok-Cybersecurity/atlas#1193",
)
class SharesTail(Decoder):
    caches = POLICIES | {"dynamic": SharedRows}

    def fork(self) -> Self:
        other = copy.copy(self)
        other.rows = [rows.fork(other) for rows in self.rows]
        return other


def separate(decoder: Any) -> Any:
    """The decoder, with slots of its own."""
    for rows in decoder.rows:
        rows.slots = list(rows.slots)
    return decoder


@variant("fork_shares_tail")
class SharesTailButReordered(SharesTail):
    """Beams are copied by other code."""

    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        return [separate(beams[i].fork()) for i in order]
