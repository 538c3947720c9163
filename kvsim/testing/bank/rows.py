"""Mistakes in the rows of the cache."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import DECODE, LOOPED, SEVERAL, SINGLE
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows


@mistake(
    "layers_share_one_cache",
    "all layers write to one cache: each layer needs its own",
    "所有层共用一个缓存：每层应有自己的缓存",
    (1,),
    twin="TrenTorch#141",
    paths=(LOOPED,),
)
class OneCache(Decoder):
    row_class: type[Rows] = Rows

    def new_rows(self) -> list[Rows]:
        return [self.row_class(self, 0)] * self.config.n_layers


class PositionsFromTheEnd(Rows):
    """Positions by index: the newest row is at the newest position, the one before it at the one before."""

    def read(self, start: int) -> Any:
        stop = self.positions[-1] + 1
        return self.keys, self.values, np.arange(len(self.keys)) - len(self.keys) + stop


@variant("layers_share_one_cache", paths=(LOOPED,))
class OneCacheByIndex(OneCache):
    row_class = PositionsFromTheEnd


class WrittenInPlace(Rows):
    """Each token has its own slot, which a later layer overwrites."""

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.keys = self.keys[:start] + keys
        self.values = self.values[:start] + values
        self.positions = list(range(start + len(keys)))


@variant("layers_share_one_cache", paths=(LOOPED,))
class OneCacheOverwritten(OneCache):
    row_class = WrittenInPlace


class OldRowsOfLastLayer(Rows):
    """Reads its own new rows, and for older ones those of the last layer."""

    def read(self, start: int) -> Any:
        last = self.decoder.rows[-1]  # type: ignore[attr-defined]
        old = len(self.positions) - self.decoder.step[1]
        return last.keys[:old] + self.keys[old:], last.values[:old] + self.values[old:], np.array(self.positions)


variant("layers_share_one_cache", paths=(LOOPED,))(OldRowsOfLastLayer)


class PositionsByIndex(Rows):
    """Row n is at position n, whichever token it is of."""

    def store(self, keys: list[Any], values: list[Any]) -> None:
        self.keys, self.values, self.positions = keys, values, list(range(len(keys)))


@mistake(
    "concat_prepends_new",
    "new rows are put before the cached ones: cat([new, cache]) must be cat([cache, new])",
    "新行接到了缓存前面：cat([新, 旧]) 应为 cat([旧, 新])",
    (1, 2),
    paths=(SINGLE, SEVERAL, LOOPED),
)
class Prepends(PositionsByIndex):
    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.store(keys + self.keys, values + self.values)


@mistake(
    "concat_wrong_axis",
    "new rows are concatenated along the wrong axis and read along the right one: heads get the rows of other heads",
    "新行沿错误的轴拼接，却按正确的轴读取：各个头读到了别的头的行",
    (1, 1),
    paths=(SINGLE, SEVERAL, LOOPED),
)
class WrongAxis(PositionsByIndex):
    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.store(self.concatenate(self.keys, keys), self.concatenate(self.values, values))

    def concatenate(self, old: list[Any], new: list[Any]) -> list[Any]:
        flat = [np.stack(rows, axis=1).reshape(-1) for rows in (old, new) if rows]  # [G, S, K] each
        shape = (new[0].shape[0], len(old) + len(new), new[0].shape[1])
        return list(np.concatenate(flat).reshape(shape).transpose(1, 0, 2))


@mistake(
    "cache_overwritten",
    "each step's rows replace the cache: they must be appended to it",
    "每一步的新行覆盖了缓存：应当追加",
    (1, 1),
    paths=(SINGLE, SEVERAL, LOOPED),
)
class Overwritten(Rows):
    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.keys, self.values, self.positions = keys, values, list(range(start, start + len(keys)))


@mistake(
    "v_not_appended_in_order",
    "values are concatenated in another order than keys: weights are applied to the values of other tokens",
    "值的拼接顺序与键不同：权重乘到了别的词元的值上",
    (1, 1),
    paths=(SINGLE, SEVERAL, LOOPED),
)
class ValuesOutOfOrder(Rows):
    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        super().append(start, keys, values)
        self.values = values + self.values[: -len(values)]


class FirstChunkOnly(Rows):
    """Stores the first chunk only. A later step sees its own rows (`sees_itself`) or not; `single`: only steps of one
    token are wrong."""

    single, sees_itself = True, True

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.current: tuple[list[Any], list[Any]] = ([], [])
        if start and (len(keys) == 1 or not self.single):
            self.current = keys, values
        else:
            super().append(start, keys, values)

    def read(self, start: int) -> Any:
        keys, values = self.current if self.sees_itself else ([], [])
        key_pos = self.positions + list(range(start, start + len(keys)))
        return self.keys + keys, self.values + values, np.array(key_pos)


@mistake(
    "decode_does_not_append",
    "a decode step does not append its key and value to the cache: later tokens never see it",
    "解码步没有把新的键和值追加到缓存：之后的词元永远看不到它们",
    (1, 1, 1),
    twin="the tutorial's own loop in 22.6.3",
    paths=(LOOPED,),
)
class NotAppended(FirstChunkOnly):
    pass


@variant("decode_does_not_append", paths=(SEVERAL,))
class NoLaterChunkAppended(FirstChunkOnly):
    single = False


@variant("decode_does_not_append", paths=(LOOPED,))
class NeitherAppendedNorSeen(FirstChunkOnly):
    sees_itself = False


@variant("decode_does_not_append", paths=(SEVERAL,))
class NoLaterChunkAppendedOrSeen(FirstChunkOnly):
    single, sees_itself = False, False


@variant("decode_does_not_append")
class NotAppendedByIndex(NotAppended):
    """Masks take old rows to be at the positions 0, 1 ..."""

    def read(self, start: int) -> Any:
        keys, values, positions = super().read(start)
        old = len(keys) - self.decoder.step[1]
        return keys, values, np.append(np.arange(old), positions[old:])


@variant("decode_does_not_append")
class NotAppendedFromTheEnd(NotAppended):
    """Masks take rows to be at consecutive positions up to the newest."""

    def read(self, start: int) -> Any:
        keys, values, _ = super().read(start)
        return keys, values, np.arange(len(keys)) - len(keys) + start + self.decoder.step[1]


class PositionsFromCacheLength(Decoder):
    """Positions are counted from the length of the cache, which does not grow."""

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        length = len(self.rows[layer].keys)
        return list(range(length, length + count))


for _rows in (NotAppended, NoLaterChunkAppended, NeitherAppendedNorSeen, NoLaterChunkAppendedOrSeen):
    variant("decode_does_not_append")(
        type(f"{_rows.__name__}AtOnePosition", (PositionsFromCacheLength,), {"caches": POLICIES | {"dynamic": _rows}})
    )


@mistake(
    "new_token_not_visible",
    "the queries of a later step see only rows cached before: they must also see themselves and the rows of their step",
    "后面各步的查询只看得到之前缓存的行：还应看到自己和本步的新行",
    (1, 1),
    twin="harvard-edge/cs249r_book#1953",
    paths=(SEVERAL, DECODE, LOOPED),
)
class OldRowsOnly(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        seen = super().visible(inputs, t)
        return seen & (inputs.key_pos < inputs.fed_before) if inputs.fed_before else seen


@variant("new_token_not_visible")
class OldRowsAndItself(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        seen = super().visible(inputs, t)
        old = (inputs.key_pos < inputs.fed_before) | (inputs.key_pos == inputs.query_pos[t])
        return seen & old if inputs.fed_before else seen


@mistake(
    "cache_not_reset_between_prompts",
    "the cache still holds the rows of the previous text: a new text needs an empty cache",
    "缓存里还留着上一段文本的行：新文本需要空缓存",
    (1,),
    twin="rasbt/LLMs-from-scratch#925",
)
class NotReset(Decoder):
    def fresh(self) -> Decoder:
        return self


@variant("cache_not_reset_between_prompts")
class NotCleared(Decoder):
    """A new object is empty, and one that was emptied is not."""

    def cleared(self) -> Decoder:
        return self


@variant("cache_not_reset_between_prompts")
class RowsNotCleared(Decoder):
    """Positions start again at 0, but the old rows are still there and every query sees them."""

    def fresh(self) -> Decoder:
        for rows in self.rows:
            rows.positions = [-1] * len(rows.positions)
        self.seen = 0
        return self


@variant("cache_not_reset_between_prompts")
class RowsNotClearedFromObject(Decoder):
    def cleared(self) -> Decoder:
        return RowsNotCleared.fresh(self)  # type: ignore[arg-type]
