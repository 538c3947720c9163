"""Mistakes in the counting of positions: rotary ones, and rows of a table of learned positions."""

from typing import Any

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import CACHED, LATER, LOOPED, SEVERAL, SINGLE
from kvsim.testing.bank.rope import AfterAppend, OffByOne, OffByOneInChunks, OneBack, RestartsAtZero
from kvsim.testing.independent.decoder import Decoder


@mistake(
    "rope_chunk_at_one_position",
    "all tokens of a chunk are rotated by the position of its first one: positions must go on inside a chunk",
    "一个分块的所有词元都按首个词元的位置旋转：块内的位置应逐个递增",
    (2,),
    paths=(CACHED,),
    twin="jundot/omlx#2363",
)
class ChunkAtOnePosition(Decoder):
    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        return [start] * count


@mistake(
    "rope_prompt_counted_twice",
    "the first chunk is counted twice: rotary positions of later steps are too large by its length",
    "首个分块被计了两次：之后各步的旋转位置都多出它的长度",
    (1, 1),
    paths=(SINGLE, SEVERAL),
    twin="skyzh/tiny-llm#46",
)
class PromptTwice(Decoder):
    first = 0  # the length of the first chunk

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        if not start:
            self.first = count
        shift = self.first if start else 0
        return list(range(start + shift, start + shift + count))


@mistake(
    "rope_decoded_tokens_forgotten",
    "a chunk after decoded tokens is rotated as if these had not been fed: positions must count every token",
    "解码之后再喂入分块时，旋转位置没有计入解码出的词元：每个词元都应计入",
    (1, 1, 2),
    twin="huggingface/transformers#36013",
)
class DecodedForgotten(Decoder):
    decoded = 0

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        if start and count == 1 and layer == 0:
            self.decoded += 1
        shift = self.decoded if count > 1 else 0
        return list(range(start - shift, start - shift + count))


@variant("rope_decoded_tokens_forgotten")
class DecodedForgottenForGood(DecodedForgotten):
    """Later steps go on from the positions of that chunk."""

    start = 0  # of the next chunk; tokens decoded since are not counted

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        if layer == 0:
            if count > 1 or not start:
                self.at, self.start, self.decoded = self.start, self.start + count, 0
            else:
                self.at, self.decoded = self.start + self.decoded, self.decoded + 1
        return list(range(self.at, self.at + count))


@mistake(
    "rope_query_after_append",
    "queries are rotated by the cache length after the new rows were appended, and keys by the length before",
    "查询按追加新行之后的缓存长度旋转，而键按追加之前的长度旋转",
    (2,),
    paths=(SINGLE, SEVERAL, CACHED),
    twin="ml-explore/mlx-lm#1384; ml-explore/mlx-lm#1396",
)
class QueryAfterAppend(Decoder):
    def encode_query(self, layer: int, x: Any, position: int) -> Any:
        return super().encode_query(layer, x, position + self.step[1])


@variant("rope_query_after_append", paths=(SINGLE, SEVERAL, CACHED))
class KeyAfterAppend(Decoder):
    def encode_key(self, layer: int, x: Any, position: int) -> Any:
        return super().encode_key(layer, x, position + self.step[1])


@mistake(
    "rope_pos_from_rows_kept",
    "rotary positions are counted from the rows that the window keeps: count all tokens fed before",
    "旋转位置按窗口中保留的行数计算：应按此前喂入的全部词元计算",
    (2, 1),
    window=2,
    paths=(SINGLE, SEVERAL),
    twin="rajveer43/VeloxQuant-MLX#195",
)
class FromRowsKept(Decoder):
    kept = 1  # less than the window

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        window = self.config.layers[layer].window
        start = start if window is None else min(start, window - self.kept)
        return list(range(start, start + count))


@variant("rope_pos_from_rows_kept", paths=(SINGLE, SEVERAL))
class FromRowsOfWholeWindow(FromRowsKept):
    kept = 0


# Learned positions


def learned(cls: type[Decoder]) -> type[Decoder]:
    """A mistake in rotary positions, made in learned ones."""

    def learned_position(self: Any, position: int) -> int:
        start, count = self.step
        if position == start:  # once in each step: some count what they were asked
            self.places = cls.rotary_positions(self, 0, start, count)
        return int(self.places[position - start])

    body = {"learned_position": learned_position, "rotary_positions": Decoder.rotary_positions}
    return type("Learned" + cls.__name__, (cls,), body)


mistake(
    "learned_pos_restarts_at_0",
    "the learned positions of every step start at 0: they must continue after the tokens fed before",
    "每一步的可学习位置都从 0 开始：应从已喂入的词元数继续编号",
    (1, 1),
    rope="learned",
    paths=(SINGLE, SEVERAL, LOOPED),
    twin="ml-explore/mlx-lm#93",
)(learned(RestartsAtZero))
mistake(
    "learned_pos_off_by_one",
    "a decoded token gets the learned position next to its own: its position is the number of tokens before it",
    "解码时新词元的可学习位置差 1：它的位置等于它前面的词元数",
    (1, 1),
    rope="learned",
    paths=(LOOPED,),
)(learned(OffByOne))
variant("learned_pos_off_by_one", paths=(LOOPED,))(learned(OneBack))
variant("learned_pos_off_by_one", paths=(SEVERAL,))(learned(OffByOneInChunks))
mistake(
    "learned_pos_after_append",
    "the learned positions are taken from the cache length after the new rows were appended: take it before",
    "可学习位置取自追加新行之后的缓存长度：应在追加之前取",
    (1,),
    rope="learned",
    paths=(CACHED, LATER),
)(learned(AfterAppend))
mistake(
    "learned_pos_chunk_at_one",
    "all tokens of a chunk get the learned position of its first one: positions must go on inside a chunk",
    "一个分块的所有词元都用首个词元的可学习位置：块内的位置应逐个递增",
    (2,),
    rope="learned",
    paths=(CACHED,),
)(learned(ChunkAtOnePosition))
mistake(
    "learned_pos_decoded_forgotten",
    "a chunk after decoded tokens gets learned positions as if these had not been fed: count every token",
    "解码之后再喂入分块时，可学习位置没有计入解码出的词元：每个词元都应计入",
    (1, 1, 2),
    rope="learned",
)(learned(DecodedForgotten))
variant("learned_pos_decoded_forgotten")(learned(DecodedForgottenForGood))


@mistake(
    "learned_pos_starts_elsewhere",
    "learned positions are shifted by a constant: the first token has position 0 of the table that was given",
    "可学习位置整体平移了一个常数：首个词元应取所给表的第 0 行",
    (1,),
    rope="learned",
)
class StartsAtOne(Decoder):
    first = 1

    def learned_position(self, position: int) -> int:
        return position + self.first


@variant("learned_pos_starts_elsewhere")
class StartsAtTwo(StartsAtOne):
    first = 2


@mistake(
    "learned_pos_not_reset",
    "learned positions go on from the previous text: a new text starts at position 0",
    "可学习位置从上一段文本接着编号：新文本应从位置 0 开始",
    (1,),
    rope="learned",
)
class GoesOn(Decoder):
    before = 0  # tokens of earlier texts

    def learned_position(self, position: int) -> int:
        return self.before + position

    def after(self) -> Decoder:
        new = type(self)(self.config, self.weights, self.policy, self.round)
        new.before = self.before + self.seen
        return new

    def fresh(self) -> Decoder:
        return self.after()


@variant("learned_pos_not_reset")
class GoesOnAfterClearing(GoesOn):
    def fresh(self) -> Decoder:
        return Decoder.fresh(self)

    def cleared(self) -> Decoder:
        return self.after()
