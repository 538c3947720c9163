"""Attention in a plain loop over queries, independent of the transformer's own.

Every step is a method, so that a mistake overrides one of them. Arrays are NumPy arrays in float64 and end in their
dimensions: T queries, S keys, H query heads, G key/value heads, K head size. There is no matrix product: elements are
multiplied and summed.
"""

from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.rounding import Rounding, exact


class AttentionInputs(NamedTuple):
    """The inputs of one layer's attention: T queries and S keys and values with their positions."""

    q_THK: Any
    k_SGK: Any
    v_SGK: Any  # its last size may differ from the keys'
    query_pos: Any  # [T]
    key_pos: Any  # [S]
    window: int | None  # a query sees its own key and window - 1 before it
    scale: float  # factor on the scores

    @property
    def fed_before(self) -> int:
        """The number of tokens fed in earlier steps."""
        return int(self.query_pos[0])


class LoopAttention:
    """softmax(scale · QKᵀ) V over the keys at or before the query's position, and inside the window (arXiv:1706.03762;
    grouped queries: arXiv:2305.13245)."""

    round: Rounding = staticmethod(exact)  # applied to the result of every step
    width: int | None = None  # d_model; None without a model
    step: tuple[int, int] = (0, 0)  # the number of tokens fed before the current step, and in it

    def buffer_length(self, lengths: Any, sequence: int, size: int) -> int:
        """How many rows one sequence has in its buffer of `size` rows, the new ones included; `lengths` [B] has that of
        each sequence."""
        return int(lengths[sequence])

    def buffer_rows(self, length: int, size: int) -> int:
        """How many rows are read of a buffer of `size` rows, in which a sequence has `length`."""
        return length

    def kv_head(self, head: int, n_heads: int, n_kv_heads: int) -> int:
        """The key/value head that query head `head` reads: adjacent query heads share one."""
        return head // (n_heads // n_kv_heads)

    def scale(self, inputs: AttentionInputs) -> float:
        """The factor on the scores."""
        return inputs.scale

    def window(self, inputs: AttentionInputs) -> int | None:
        """The size of the sliding window; None: full attention."""
        return inputs.window

    def allowed(self, inputs: AttentionInputs) -> Any:
        """[T, S]: whether each query sees each key."""
        return np.array([self.visible(inputs, t) for t in range(len(inputs.query_pos))])

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        """[S]: whether query t sees each key."""
        query, window = inputs.query_pos[t], self.window(inputs)
        seen = inputs.key_pos <= query
        return seen if window is None else seen & (inputs.key_pos > query - window)

    def scores(self, inputs: AttentionInputs) -> Any:
        """[H, T, S]: the scaled dot product of each query with each key."""
        n_new, n_heads, _ = inputs.q_THK.shape
        keys_SHK = self._by_query_head(inputs.k_SGK, n_heads)
        scores_HTS = np.empty((n_heads, n_new, len(inputs.key_pos)))
        for t in range(n_new):
            scores_HTS[:, t] = np.add.reduce(keys_SHK * inputs.q_THK[t], axis=-1).T
        return self.round(self.round(scores_HTS) * self.scale(inputs) + self.bias(inputs))

    def _by_query_head(self, x_SGK: Any, n_heads: int) -> Any:
        """[S, H, K]: the rows that each query head reads."""
        n_kv_heads = x_SGK.shape[1]
        return x_SGK.take([self.kv_head(head, n_heads, n_kv_heads) for head in range(n_heads)], axis=1)

    def bias(self, inputs: AttentionInputs) -> Any:
        """[H, T, S], or 0: what is added to the scores."""
        return 0.0

    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        """[H, T, S]: the scores, -inf where a query does not see a key."""
        return np.where(allowed_TS, scores_HTS, -np.inf)

    def softmax(self, scores_HTS: Any) -> Any:
        """[H, T, S]: softmax over the keys."""
        return self.softmax_over(scores_HTS, -1)

    def softmax_over(self, scores: Any, axis: int) -> Any:
        """Softmax along one axis; NaN where all of it is -inf, as in NumPy and PyTorch."""
        with np.errstate(invalid="ignore", over="ignore"):
            weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
            return self.round(weights / weights.sum(axis=axis, keepdims=True))

    def probabilities(self, inputs: AttentionInputs, scores_HTS: Any, allowed_TS: Any) -> Any:
        """[H, T, S]: the attention weights."""
        return self.softmax(self.mask(scores_HTS, allowed_TS))

    def weight_values(self, inputs: AttentionInputs, probs_HTS: Any) -> Any:
        """[H, T, K]: the sum of the values, weighted."""
        n_heads, n_new, _ = probs_HTS.shape
        values_SHK = self._by_query_head(inputs.v_SGK, n_heads)
        context_HTK = np.empty((n_heads, n_new, inputs.v_SGK.shape[2]))
        for t in range(n_new):
            context_HTK[:, t] = np.add.reduce(values_SHK * probs_HTS[:, t].T[..., None], axis=0)
        return self.round(context_HTK)

    def merge_heads(self, context_HTK: Any) -> Any:
        """[T, H·K]: the heads of each token, concatenated."""
        n_heads, n_new, size = context_HTK.shape
        return np.array([context_HTK[:, t].reshape(n_heads * size) for t in range(n_new)])

    def attend(self, inputs: AttentionInputs) -> Any:
        """The output [T, H·K] of all steps in order."""
        probs_HTS = self.probabilities(inputs, self.scores(inputs), self.allowed(inputs))
        return self.merge_heads(self.weight_values(inputs, probs_HTS))
