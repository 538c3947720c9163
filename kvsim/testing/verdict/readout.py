"""The attention matrix of a function that returns only its output.

Attention is linear in V, so that with one-hot values the output is the attention matrix.
"""

from typing import Any

import numpy as np

from kvsim.testing.subject.attention import Inputs, Setting, call_attention
from kvsim.testing.subject.calls import max_abs
from kvsim.testing.verdict.failure import Weights


def read_out(s: Setting, inputs: Inputs) -> Any:
    """The weights [B, H, T, S]: values are 1 for one key and 0 for the others, `d_head` keys in one call."""
    d, n = s.d_head, inputs.k.shape[1]
    columns = []
    for first in range(0, n, d):
        v = np.zeros_like(inputs.v)
        for channel, key in enumerate(range(first, min(first + d, n))):
            v[:, key, :, channel] = 1.0
        got, _ = call_attention(s, inputs._replace(v=v))
        columns.append(got[..., : min(d, n - first)])
    return np.concatenate(columns, axis=-1).transpose(0, 2, 1, 3)


def read_heads(s: Setting, inputs: Inputs) -> list[int | None]:
    """The key/value head that each query head reads; None: none or several."""
    weights = []
    for g in range(s.kv_heads):
        v = np.zeros_like(inputs.v)
        v[:, :, g] = 1.0
        weights.append(np.abs(call_attention(s, inputs._replace(v=v))[0]).max(axis=(0, 1, 3)))
    seen = np.stack(weights) > 1e-6
    return [int(np.argmax(column)) if column.sum() == 1 else None for column in seen.T]


def is_linear(s: Setting, inputs: Inputs, allowed: float) -> bool:
    """Do values of 0 give an output of 0?"""
    return max_abs(call_attention(s, inputs._replace(v=np.zeros_like(inputs.v)))[0]) <= allowed


def read_weights(s: Setting, inputs: Inputs, allowed: float) -> Weights:
    """Which keys each query sees, in the first head in which that is wrong, and which key/value heads are read.
    UnreadableError: the function cannot be called so."""
    got, heads = read_out(s, inputs), read_heads(s, inputs)
    t, n, limit = inputs.q.shape[1], inputs.k.shape[1], max(allowed, 1e-12)
    sees = np.abs(np.nan_to_num(got, nan=1.0)) > limit
    query = np.arange(n - t, n)[:, None]
    must = (np.arange(n) <= query) & (np.arange(n) > query - (n + 1 if s.window is None else s.window))
    differing = [h for h in range(s.heads) if not np.array_equal(sees[0, h], must)]
    head = (differing or [0])[0]
    sums = bool(np.abs(got.sum(axis=-1) - 1.0).max() <= max(100 * allowed, 1e-9))
    return Weights(head, sees[0, head], must, heads, [h // (s.heads // s.kv_heads) for h in range(s.heads)], sums)
