"""Attention in plain loops over queries and heads, its steps as methods: independent of the transformer's own.

A mistake overrides one step. Arrays are NumPy's, in float64, and end in their dimensions as DESIGN has them: T queries,
S rows of keys, H query heads, G key/value heads, K head size. No matrix product: multiply, then add up.
"""

from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.rounding import Rounding, exact


class Look(NamedTuple):
    """What T queries of one layer look at."""

    q_THK: Any
    k_SGK: Any
    v_SGK: Any  # the last size may be another
    query_pos: Any  # [T]
    key_pos: Any  # [S]
    window: int | None  # a query sees itself and window - 1 before
    scale: float  # of the scores

    @property
    def fed_before(self) -> int:
        """Tokens before this step's."""
        return int(self.query_pos[0])


class Attending:
    """softmax(scale · QKᵀ) V, where key position <= query position (and inside the window)."""

    keep: Rounding = staticmethod(exact)  # what every step's result is rounded to
    width: int | None = None  # the model's, where there is one

    def kv_head(self, head: int, n_heads: int, n_kv_heads: int) -> int:
        """The key/value head that a query head reads: neighbours share one."""
        return head // (n_heads // n_kv_heads)

    def scale(self, look: Look) -> float:
        return look.scale

    def window(self, look: Look) -> int | None:
        return look.window

    def allowed(self, look: Look) -> Any:
        """[T, S]: who may look at whom."""
        rows = [self.sees(look, t) for t in range(len(look.query_pos))]
        return np.stack(rows)

    def sees(self, look: Look, t: int) -> Any:
        """[S]: what the query t may look at."""
        query, window = look.query_pos[t], self.window(look)
        seen = look.key_pos <= query
        return seen if window is None else seen & (look.key_pos > query - window)

    def scores(self, look: Look) -> Any:
        """[H, T, S]: each query against each key, scaled."""
        n_new, n_heads, _ = look.q_THK.shape
        n_kv_heads = look.k_SGK.shape[1]
        scores_HTS = np.empty((n_heads, n_new, len(look.key_pos)))
        for head in range(n_heads):
            keys_SK = look.k_SGK[:, self.kv_head(head, n_heads, n_kv_heads)]
            for t in range(n_new):
                scores_HTS[head, t] = self.keep((keys_SK * look.q_THK[t, head]).sum(axis=-1))
        return self.keep(scores_HTS * self.scale(look))

    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -np.inf)

    def softmax(self, scores_HTS: Any) -> Any:
        """Over the keys."""
        return self.softmax_over(scores_HTS, -1)

    def softmax_over(self, scores: Any, axis: int) -> Any:
        """Where nothing is seen, NaN: as a library gives it."""
        with np.errstate(invalid="ignore", over="ignore"):
            weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
            return self.keep(weights / weights.sum(axis=axis, keepdims=True))

    def probabilities(self, look: Look, scores_HTS: Any, allowed_TS: Any) -> Any:
        """[H, T, S]."""
        return self.softmax(self.mask(scores_HTS, allowed_TS))

    def weigh(self, look: Look, probs_HTS: Any) -> Any:
        """[H, T, K]: the sum of the values, each by its weight."""
        n_heads, n_new, _ = probs_HTS.shape
        n_kv_heads = look.v_SGK.shape[1]
        context_HTK = np.empty((n_heads, n_new, look.v_SGK.shape[2]))
        for head in range(n_heads):
            values_SK = look.v_SGK[:, self.kv_head(head, n_heads, n_kv_heads)]
            for t in range(n_new):
                context_HTK[head, t] = (values_SK * probs_HTS[head, t][:, None]).sum(axis=0)
        return self.keep(context_HTK)

    def merge(self, context_HTK: Any) -> Any:
        """[T, H·K]: the heads of a token side by side."""
        n_heads, n_new, size = context_HTK.shape
        return np.stack([context_HTK[:, t].reshape(n_heads * size) for t in range(n_new)])

    def attend(self, look: Look) -> Any:
        """[T, H·K]."""
        probs_HTS = self.probabilities(look, self.scores(look), self.allowed(look))
        return self.merge(self.weigh(look, probs_HTS))
