"""Mistakes in what is stored and read: rows never written, slots that hold none, padding, rows dropped or rounded."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import CACHED, LOOPED, SEVERAL, SINGLE
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rounding import rounding
from kvsim.testing.independent.rows import Rows


@mistake(
    "first_token_never_written",
    "the row of the first token is not in the cache: later steps do not see it",
    "缓存里没有第一个词元的行：之后各步都看不到它",
    (1, 1),
    paths=(LOOPED,),
    twin="TrenTorch#192",
)
class FirstNotWritten(Rows):
    def read(self, start: int) -> Any:
        first = 1 if start else 0
        return self.keys[first:], self.values[first:], np.array(self.positions[first:])


@variant("first_token_never_written", paths=(LOOPED,))
class FirstIsZeros(Rows):
    """Its slot holds zeros."""

    def read(self, start: int) -> Any:
        keys, values, positions = super().read(start)
        if not start:
            return keys, values, positions
        return [keys[0] * 0.0, *keys[1:]], [values[0] * 0.0, *values[1:]], positions


@mistake(
    "rows_written_early",
    "the rows of a step are written one slot early: they overwrite the newest cached row",
    "本步的行写早了一个槽位：覆盖了缓存中最新的一行",
    (1, 1),
    paths=(SINGLE, SEVERAL),
    twin="jundot/omlx#2172",
)
class WrittenEarly(Rows):
    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        if start:
            self.keys, self.values, self.positions = self.keys[:-1], self.values[:-1], self.positions[:-1]
        super().append(start, keys, values)


@variant("rows_written_early")
class WrittenEarlyAndZeros(Rows):
    """The slot that they leave is read and holds zeros."""

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        if not start:
            return super().append(start, keys, values)
        zeros = np.zeros_like(keys[0])
        self.keys, self.values = [*self.keys[: start - 1], *keys, zeros], [*self.values[: start - 1], *values, zeros]
        self.positions = list(range(start + len(keys)))
        return None


@mistake(
    "unwritten_slots_read",
    "slots of the preallocated buffer that were never written are read, too: read only as many rows as were stored",
    "预分配缓冲区中从未写入的槽位也被读出：只应读取已存入的行",
    (1,),
    paths=(CACHED,),
)
class WholeBuffer(Rows):
    """A buffer of zeros that is a multiple of `slots`."""

    slots = 64

    def read(self, start: int) -> Any:
        keys, values, positions = super().read(start)
        empty = -len(keys) % self.slots
        zeros = [np.zeros_like(keys[0])] * empty
        return [*keys, *zeros], [*values, *zeros], np.append(positions, [0] * empty)


@variant("unwritten_slots_read")
class WholeBufferOf4(WholeBuffer):
    slots = 4


@variant("unwritten_slots_read")
class WholeBufferOf16(WholeBuffer):
    slots = 16


@variant("unwritten_slots_read")
class WholeBufferOf128(WholeBuffer):
    slots = 128


class EmptyAtMinusOne(WholeBuffer):
    def read(self, start: int) -> Any:
        keys, values, positions = super().read(start)
        return keys, values, np.where(np.arange(len(keys)) < len(self.keys), positions, -1)


@variant("unwritten_slots_read")
class WholeBufferOutsideWindow(Decoder):
    """Also queries whose window ends after the start of the text see the empty slots."""

    caches = POLICIES | {"dynamic": EmptyAtMinusOne}

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) | (inputs.key_pos < 0)


@mistake(
    "padding_attended",
    "a chunk is padded and the rows of the padding are attended: mask them, in this step and in later ones",
    "分块被填充，填充产生的行也参与了注意力：本步和之后各步都应遮蔽它们",
    (1,),
    twin="unslothai/unsloth#3699",
)
class PaddedOnTheLeft(Decoder):
    """The first chunk, to a multiple of 4 with token 0."""

    size, right = 4, False

    def forward(self, ids: Any) -> Any:
        padding = [0] * (-len(ids) % self.size) if self.right or not self.seen else []
        if self.right:
            return super().forward([*ids, *padding])[: len(ids)]
        return super().forward([*padding, *ids])[len(padding) :]


@variant("padding_attended")
class PaddedOnTheLeftTo8(PaddedOnTheLeft):
    size = 8


@variant("padding_attended")
class PaddedOnTheRight(PaddedOnTheLeft):
    """Every chunk, and later positions count the padding."""

    right = True


@variant("padding_attended")
class PaddedOnTheRightTo8(PaddedOnTheRight):
    size = 8


@mistake(
    "decoded_rows_dropped",
    "a chunk after decoded tokens drops their rows from the cache: a second turn must see the first answer",
    "解码之后再喂入分块时，解码出的词元的行被丢弃了：第二轮应看得到第一轮的回答",
    (1, 1, 2),
    twin="Blaizzy/mlx-vlm#1715",
)
class AnswerDropped(Rows):
    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        if len(keys) > 1 or not start:
            kept = getattr(self, "prompt", 0)
            self.keys, self.values, self.positions = self.keys[:kept], self.values[:kept], self.positions[:kept]
            self.prompt = kept + len(keys)
        super().append(start, keys, values)


@variant("decoded_rows_dropped")
class AnswerDroppedAndRenumbered(Decoder):
    """Positions are counted from the rows that are left."""

    def forward(self, ids: Any) -> Any:
        if len(ids) > 1 or not self.seen:
            self.prompt = getattr(self, "prompt", 0) + len(ids)
            self.seen = self.prompt - len(ids)
            for rows in self.rows:
                del rows.keys[self.seen :], rows.values[self.seen :], rows.positions[self.seen :]
        return super().forward(ids)


@mistake(
    "context_length_before_step",
    "attention is given the context length before the step: the newest rows, as many as are fed, are not seen",
    "注意力用的是本步之前的上下文长度：看不到最新的、与本步词元数相同的那些行",
    (1, 1),
    paths=(SEVERAL,),
    twin="harvard-edge/cs249r_book#1953",
)
class LengthBeforeStep(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        seen = super().visible(inputs, t)
        return seen & (inputs.key_pos <= inputs.query_pos[t] - self.step[1]) if self.step[0] else seen


@variant("context_length_before_step")
class LengthBeforeStepFinite(LengthBeforeStep):
    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -1e9)


@mistake(
    "cache_rounded",
    "cached rows are rounded to a coarser format than the program computes in",
    "缓存的行被舍入到比计算精度更低的格式",
    (1,),
    paths=(CACHED,),
)
class KeptInFloat32(Rows):
    format = "float32"

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        keep = rounding(self.format)
        super().append(start, [keep(x) for x in keys], [keep(x) for x in values])


@variant("cache_rounded")
class KeptInFloat16(KeptInFloat32):
    format = "float16"


@variant("cache_rounded")
class KeptInBfloat16(KeptInFloat32):
    format = "bfloat16"


class ReadRounded(KeptInFloat32):
    """A step sees its own rows before they are rounded."""

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        keep = rounding(self.format)
        self.keys, self.values = [keep(x) for x in self.keys], [keep(x) for x in self.values]
        Rows.append(self, start, keys, values)


for _format in ("float32", "float16", "bfloat16"):
    variant("cache_rounded")(type(f"ReadRounded{_format.title()}", (ReadRounded,), {"format": _format}))
