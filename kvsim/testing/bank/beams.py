"""Mistakes in putting sequences in another order, as beam search does after every step.

They are tried by `kvsim.testing.assert_edits`, as those in `edits.py` are.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

from kvsim.testing.bank.edits import COUNTED, SharesTail, separate
from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.independent.decoder import Decoder


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
class BeamsShareRows(Decoder):
    """Only the number of tokens is each one's own."""

    @classmethod
    def reorder(cls, beams: list[Any], order: Sequence[int]) -> list[Any]:
        return [copy.copy(beams[i]) for i in order]


@variant("reorder_not_copied")
class BeamsShareRowsCounted(BeamsShareRows):
    caches = COUNTED


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


def counted(cls: type[Decoder]) -> type[Decoder]:
    """The same mistake in caches whose decoders count the tokens themselves, rightly."""

    def reorder(beams: list[Any], order: Sequence[int]) -> list[Any]:
        seen = [beams[i].seen for i in order]
        new = cls.reorder(beams, order)
        for decoder, count in zip(new, seen, strict=True):
            decoder.seen = count
        return new

    return type(cls.__name__ + "Counted", (cls,), {"caches": COUNTED, "reorder": staticmethod(reorder)})


variant("reorder_not_done")(counted(NotDone))
variant("reorder_inverted")(counted(Inverted))
variant("reorder_not_copied")(counted(OneAfterAnother))


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


@variant("reorder_keeps_positions")
class LengthsStayCounted(LengthsStay):
    caches = COUNTED
