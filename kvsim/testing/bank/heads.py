"""Mistakes in heads, scale, softmax, and the weighted sum of values."""

import math
from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.weights import Attention


@mistake(
    "gqa_tile_instead_of_repeat",
    "key/value heads are tiled (0, 1, 0, 1): neighbouring query heads share one (0, 0, 1, 1)",
    "KV 头按整组平铺（0, 1, 0, 1）：应由相邻的查询头共用一个（0, 0, 1, 1）",
    (1,),
    twin="onnx/onnx#7274; apple/axlearn#842",
)
class Tiled(Decoder):
    def kv_head(self, head: int, n_heads: int, n_kv_heads: int) -> int:
        return head % n_kv_heads


@mistake(
    "gqa_all_heads_use_kv0",
    "every query head reads key/value head 0",
    "所有查询头都读第 0 个 KV 头",
    (1,),
)
class FirstHeadOnly(Decoder):
    def kv_head(self, head: int, n_heads: int, n_kv_heads: int) -> int:
        return 0


@mistake("scale_missing", "scores are not divided by sqrt(d_head)", "分数没有除以 sqrt(d_head)", (2,))
class NoScale(Decoder):
    def scale(self, inputs: AttentionInputs) -> float:
        return 1.0


@mistake(
    "scale_by_d_model",
    "scores are divided by sqrt(d_model) instead of sqrt(d_head)",
    "分数除以了 sqrt(d_model)，应为 sqrt(d_head)",
    (2,),
)
class ScaledByWidth(Decoder):
    def scale(self, inputs: AttentionInputs) -> float:
        return 1.0 / math.sqrt(self.width or inputs.q_THK.shape[1] * inputs.q_THK.shape[2])


@mistake(
    "scale_not_sqrt", "scores are divided by d_head instead of its root", "分数除以了 d_head，应除以它的平方根", (2,)
)
class ScaledWithoutRoot(Decoder):
    def scale(self, inputs: AttentionInputs) -> float:
        return 1.0 / int(inputs.q_THK.shape[2])


@mistake(
    "softmax_over_queries",
    "softmax runs over the queries: the weights of one query do not sum to 1 (use the axis of the keys)",
    "softmax 沿查询轴计算：一个查询的权重之和不是 1（应沿键轴）",
    (2,),
)
class OverQueries(Decoder):
    def softmax(self, scores_HTS: Any) -> Any:
        return self.softmax_over(scores_HTS, 1)


@variant("softmax_over_queries")
class OverQueriesFinite(OverQueries):
    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -1e9)


@mistake(
    "softmax_over_heads",
    "softmax runs over the heads: use the axis of the keys",
    "softmax 沿头的轴计算：应沿键轴",
    (1,),
)
class OverHeadsFinite(Decoder):
    def softmax(self, scores_HTS: Any) -> Any:
        return self.softmax_over(scores_HTS, 0)

    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -1e9)


@variant("softmax_over_heads")
class OverHeads(Decoder):
    def softmax(self, scores_HTS: Any) -> Any:
        return self.softmax_over(scores_HTS, 0)


@variant("softmax_over_heads")
class OverHeadsZeroed(OverHeads):
    """With 0 where all keys are masked."""

    def softmax(self, scores_HTS: Any) -> Any:
        return np.nan_to_num(super().softmax(scores_HTS))


@mistake(
    "softmax_missing",
    "there is no softmax: values are weighted by raw scores",
    "缺少 softmax：直接用分数加权",
    (1,),
)
class NoSoftmax(Decoder):
    def probabilities(self, inputs: AttentionInputs, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, 0.0)


@variant("softmax_missing")
class NeitherSoftmaxNorMask(Decoder):
    def probabilities(self, inputs: AttentionInputs, scores_HTS: Any, allowed_TS: Any) -> Any:
        return scores_HTS


@mistake("used_k_as_v", "the weighted sum is of keys: it must be of values", "加权求和用的是键：应当用值", (1,))
class KeysAsValues(Decoder):
    def weight_values(self, inputs: AttentionInputs, probs_HTS: Any) -> Any:
        return super().weight_values(inputs._replace(v_SGK=inputs.k_SGK), probs_HTS)


@variant("used_k_as_v")
class UnrotatedKeysAsValues(Decoder):
    """Keys before their rotation."""

    def project_value(self, w: Attention, x: Any) -> Any:
        return self.project(w.key, x)


@mistake(
    "heads_merged_without_transpose",
    "[H, T, K] is reshaped to [T, H·K] without transposing to [T, H, K] first: tokens get the heads of other tokens",
    "没有先转置成 [T, H, K] 就把 [H, T, K] 变形为 [T, H·K]：各词元拿到了别的词元的头",
    (2,),
)
class NotTransposed(Decoder):
    def merge_heads(self, context_HTK: Any) -> Any:
        n_heads, n_new, size = context_HTK.shape
        return np.ascontiguousarray(context_HTK).reshape(n_new, n_heads * size)
