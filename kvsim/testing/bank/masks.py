"""Mistakes in the causal mask."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import CACHED, FIRST, LOOPED, SEVERAL, SINGLE
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder


@mistake(
    "mask_top_left",
    "the causal mask is not shifted by the cache length (tril with k = n_keys - n_queries)",
    "因果掩码没有按缓存长度平移（应为 tril(k = 键数 - 查询数)）",
    (1, 1),
    twin="onnx/onnx#8068; pytorch/executorch#21749; huggingface/candle#3743",
    paths=(SINGLE, SEVERAL, LOOPED),
)
class TopLeft(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        column, window = np.arange(len(inputs.key_pos)), self.window(inputs)
        seen = column <= t
        return seen if window is None else seen & (column > t - window)


@mistake(
    "mask_missing",
    "there is no causal mask: queries see the future",
    "没有因果掩码：查询看到了未来的词元",
    (2,),
    paths=(FIRST,),
    whole=False,
)
class NoMask(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        window = self.window(inputs)
        return inputs.key_pos > inputs.query_pos[t] - (np.inf if window is None else window)


@variant("mask_missing", paths=(SEVERAL, FIRST))
class NeitherMaskNorWindow(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return np.full(len(inputs.key_pos), True)


@mistake(
    "mask_only_when_square",
    "the causal mask is applied only if there are as many queries as keys: later chunks see the future",
    "只有查询数等于键数时才加因果掩码：后面的分块看到了未来的词元",
    (1, 2),
    twin="Mikyx-1/TinyLLM#18",
    whole=False,
)
class OnlySquare(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        if len(inputs.query_pos) == len(inputs.key_pos):
            return super().visible(inputs, t)
        window = self.window(inputs)
        return inputs.key_pos > inputs.query_pos[t] - (np.inf if window is None else window)


@variant("mask_only_when_square", paths=(SEVERAL,))
class NothingUnlessSquare(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        square = len(inputs.query_pos) == len(inputs.key_pos)
        return super().visible(inputs, t) if square else np.full(len(inputs.key_pos), True)


class StrictMask(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) & (inputs.key_pos < inputs.query_pos[t])


@mistake(
    "mask_strict_no_self",
    "the mask is strict: a query does not see itself (key < query must be key <= query)",
    "掩码过严：查询看不到自己（键位置 < 查询位置 应为 <=）",
    (2,),
    paths=(SEVERAL, CACHED),
)
class StrictMaskFinite(StrictMask):
    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -1e9)


variant("mask_strict_no_self")(StrictMask)


@variant("mask_strict_no_self")
class StrictMaskZeroed(StrictMask):
    def softmax(self, scores_HTS: Any) -> Any:
        return np.nan_to_num(super().softmax(scores_HTS))


@mistake(
    "mask_one_future",
    "queries see one future token",
    "查询多看到了一个未来的词元",
    (2,),
    paths=(CACHED, FIRST),
)
class OneFuture(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) | (inputs.key_pos == inputs.query_pos[t] + 1)


@mistake(
    "mask_zero_instead_of_inf",
    "masked scores become 0 instead of -inf before softmax: they keep a share of the weight",
    "被遮蔽的分数置为 0 而不是 -inf（在 softmax 之前）：它们仍分得权重",
    (2,),
    paths=(SEVERAL, CACHED),
)
class MaskedToZero(Decoder):
    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, 0.0)


@mistake(
    "mask_after_softmax",
    "the mask is applied after softmax: rows no longer sum to 1",
    "掩码加在 softmax 之后：每行之和不再是 1",
    (2,),
    paths=(SEVERAL, CACHED),
)
class AfterSoftmax(Decoder):
    def probabilities(self, inputs: AttentionInputs, scores_HTS: Any, allowed_TS: Any) -> Any:
        return self.softmax(scores_HTS) * allowed_TS
