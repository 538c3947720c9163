"""Mistakes in what is done to caches between steps: cropped, as speculative decoding does, forked, and put in another
order, as beam search does.

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
class NotCopiedButReordered(NotCopied):
    """Beams are copied by other code."""

    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        return [Decoder.fork(beams[i]) for i in order]


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


@mistake(
    "reorder_not_done",
    "sequences stay in their places: after reordering, each place goes on from the sequence that the order names",
    "重排后各序列仍留在原位：每个位置应接着 order 所指的序列继续",
    (1,),
    edits="reorder",
    twin="huggingface/transformers#46612",
)
class NotDone(Decoder):
    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        return beams


@mistake(
    "reorder_inverted",
    "place order[i] gets what place i held: place i must get what place order[i] held",
    "把第 i 位的内容放到了第 order[i] 位：应由第 i 位取得第 order[i] 位的内容",
    (1,),
    edits="reorder",
)
class Inverted(Decoder):
    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        new = list(beams)
        for i, place in enumerate(order):
            new[place] = beams[i]
        return [decoder.fork() for decoder in new]


@mistake(
    "reorder_not_copied",
    "rows are not copied: places that go on from one sequence share its cache, or it is overwritten before it is read",
    "没有复制行：接着同一序列的几个位置共用它的缓存，或它在读出前已被覆盖",
    (1,),
    edits="reorder",
    twin="ggml-org/llama.cpp#3802",
)
class BeamsShared(Decoder):
    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        return [beams[i] for i in order]


@variant("reorder_not_copied")
class OneAfterAnother(Decoder):
    """In place: a later place reads one that was written before."""

    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        for place, i in enumerate(order):
            beams[place] = beams[i].fork()
        return beams


@variant("reorder_not_copied")
class BeamsShareSlots(SharesTail):
    """Slots are shared, and lengths are not. A fork has slots of its own."""

    def fork(self) -> Self:
        return separate(super().fork())  # type: ignore[no-any-return]

    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        return [SharesTail.fork(beams[i]) for i in order]


def resized(rows: list[Any], like: list[Any]) -> list[Any]:
    """As many rows as `like` has; zeros where there are none."""
    return [rows[i] if i < len(rows) else row * 0.0 for i, row in enumerate(like)]


@mistake(
    "reorder_keys_only",
    "only the keys are put in the new order, or only the values: both belong to a row",
    "只重排了键，或只重排了值：两者都属于行，应一起重排",
    (1,),
    edits="reorder",
)
class KeysOnly(Decoder):
    left = "values"

    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        new = [beams[i].fork() for i in order]
        for decoder, here in zip(new, beams, strict=True):
            for rows, old in zip(decoder.rows, here.rows, strict=True):
                setattr(rows, cls.left, resized(getattr(old, cls.left), getattr(rows, cls.left)))
        return new


@variant("reorder_keys_only")
class ValuesOnly(KeysOnly):
    left = "keys"


@mistake(
    "reorder_keeps_positions",
    "rows are put in the new order and lengths are not: positions go on from the sequence that was in the place before",
    "行已重排，长度没有：位置仍接着原在该位的序列编号",
    (1,),
    edits="reorder",
)
class LengthsStay(Decoder):
    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        new = [beams[i].fork() for i in order]
        for decoder, here in zip(new, beams, strict=True):
            decoder.seen = here.seen
        return new
