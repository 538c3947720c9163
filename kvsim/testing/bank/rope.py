"""Mistakes in rotary positions."""

from typing import Any

import numpy as np

from kvsim.config import Rope
from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import CACHED, DECODE, FIRST, LATER, LOOPED, SEVERAL, SINGLE
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rows import Rows


@mistake(
    "rope_pos_restarts_at_0",
    "the rotary positions of every step start at 0: they must continue after the tokens fed before",
    "每一步的旋转位置都从 0 开始：应从已喂入的词元数继续编号",
    (1, 1),
    twin="Blaizzy/mlx-vlm#1983",
    paths=(SINGLE, SEVERAL, LOOPED),
)
class RestartsAtZero(Decoder):
    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        return list(range(count))


@mistake(
    "rope_pos_after_append",
    "the rotary positions are taken from the cache length after the new rows were appended: take it before",
    "旋转位置取自追加新行之后的缓存长度：应在追加之前取",
    (1, 2),
    paths=(SINGLE, SEVERAL, LATER, FIRST),
)
class AfterAppend(Decoder):
    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        return list(range(start + count, start + 2 * count))


@variant("rope_pos_after_append")
class AfterAppendOnceCached(Decoder):
    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        shift = count if start else 0
        return list(range(start + shift, start + shift + count))


@mistake(
    "rope_off_by_one_decode",
    "a decoded token is rotated by a position that is off by one: its position is the number of tokens before it",
    "解码时新词元的旋转位置差 1：它的位置等于它前面的词元数",
    (1, 1),
    paths=(LOOPED,),
)
class OffByOne(Decoder):
    shift, single = 1, True

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        shift = self.shift if start and (count == 1 or not self.single) else 0
        return list(range(start + shift, start + shift + count))


@variant("rope_off_by_one_decode", paths=(LOOPED,))
class OneBack(OffByOne):
    shift = -1


@variant("rope_off_by_one_decode", paths=(SEVERAL,))
class OffByOneInChunks(OffByOne):
    single = False


@variant("rope_off_by_one_decode", paths=(SEVERAL,))
class OneBackInChunks(OffByOne):
    shift, single = -1, False


@mistake(
    "rope_len_committed_by_layer0",
    "layer 0 counts the new tokens as seen, so that later layers use positions that are too large: count after the last"
    " layer",
    "第 0 层就把新词元计入已见长度，后面各层的旋转位置都偏大：应在最后一层之后再计入",
    (1, 2),
    twin="fla-org/flash-linear-attention#766",
    paths=(SINGLE, SEVERAL, DECODE, LATER, FIRST),
)
class CommittedByLayerZero(Decoder):
    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        shift = count if layer else 0
        return list(range(start + shift, start + shift + count))


@variant("rope_len_committed_by_layer0", paths=(LOOPED,))
class CommittedByLayerZeroOnceCached(Decoder):
    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        shift = count if layer and start else 0
        return list(range(start + shift, start + shift + count))


@mistake(
    "rope_interleaved_pairs",
    "rotary pairs are adjacent (2j, 2j + 1) but the weights expect halves (j, d/2 + j), or the reverse",
    "旋转时把相邻元素 (2j, 2j+1) 配成一对，而权重要求前后两半 (j, d/2+j) 配对（或反之）",
    (2,),
    paths=(SINGLE, SEVERAL, CACHED),
)
class OtherPairs(Decoder):
    def pairs(self, rope: Rope) -> list[tuple[int, int]]:
        half = rope.size // 2
        return [(2 * j, 2 * j + 1) if rope.pairs == "halves" else (j, half + j) for j in range(half)]


@mistake(
    "rope_q_not_rotated",
    "queries are not rotated",
    "查询没有旋转",
    (2,),
    paths=(SINGLE, SEVERAL, CACHED),
)
class QueryNotRotated(Decoder):
    def encode_query(self, layer: int, x: Any, position: int) -> Any:
        return x


@mistake(
    "rope_k_not_rotated",
    "keys are not rotated",
    "键没有旋转",
    (2,),
    paths=(SINGLE, SEVERAL, CACHED),
)
class KeyNotRotated(Decoder):
    def encode_key(self, layer: int, x: Any, position: int) -> Any:
        return x


@mistake(
    "cache_pre_rope_never_rotated",
    "keys are cached before their rotation and not rotated on read: old keys have no positions",
    "缓存的是旋转之前的键，读取时也没有补上旋转：旧键没有位置信息",
    (2, 1),
    paths=(SINGLE, SEVERAL, CACHED, LOOPED),
)
class NeverRotated(Rows):
    def update(self, start: int, q: list[Any], k: list[Any], v: list[Any], positions: list[int]) -> Any:
        parts = super().update(start, q, k, v, positions)
        self.keys[start:] = k
        return parts


@mistake(
    "double_rope_on_read",
    "cached keys are rotated on write and again on read",
    "缓存的键写入时已旋转过，读取时又旋转了一次",
    (2, 1),
    paths=(SINGLE, SEVERAL, LOOPED),
)
class RotatedTwice(Rows):
    def read(self, start: int) -> Any:
        rows = zip(self.keys, self.positions, strict=True)
        keys = [self.decoder.encode_key(self.layer, key, at) if at < start else key for key, at in rows]
        return keys, self.values, np.array(self.positions)


@variant("double_rope_on_read", paths=(SINGLE, SEVERAL, CACHED))
class AllRotatedTwice(Rows):
    def read(self, start: int) -> Any:
        rows = zip(self.keys, self.positions, strict=True)
        keys = [self.decoder.encode_key(self.layer, key, at) for key, at in rows]
        return keys, self.values, np.array(self.positions)


@variant("double_rope_on_read", paths=(SINGLE, SEVERAL, LOOPED))
class RotatedAtEveryStep(RotatedTwice):
    """The result is written back to the cache."""

    def read(self, start: int) -> Any:
        self.keys, values, positions = super().read(start)
        return self.keys, values, positions


@mistake(
    "rope_applied_to_v",
    "values are rotated too: only queries and keys are",
    "值也被旋转了：只有查询和键该旋转",
    (2,),
    paths=(SINGLE, SEVERAL, CACHED),
)
class ValueRotated(Decoder):
    def encode_value(self, layer: int, x: Any, position: int) -> Any:
        return self.rotate(layer, x, position)


@mistake(
    "rope_over_heads_axis",
    "the rotation runs over the heads: head h is rotated by position h, whatever the token",
    "旋转沿着头的轴进行：第 h 个头按位置 h 旋转，与词元无关",
    (2,),
    paths=(SINGLE, SEVERAL, CACHED),
)
class OverHeads(Decoder):
    def rotate(self, layer: int, x: Any, position: int) -> Any:
        rope = self.config.layers[layer].rope
        return x if rope is None else np.stack([self.rotate_pairs(rope, head, h) for h, head in enumerate(x)])
