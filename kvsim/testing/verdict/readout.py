"""The attention matrix of a function that returns only its output.

Attention is linear in V, so that with one-hot values the output is the attention matrix.
"""

from typing import Any

import numpy as np

from kvsim.testing.subject.attention import Inputs, Setting, call_attention
from kvsim.testing.subject.calls import max_abs
from kvsim.testing.verdict.failure import Weights

MOST_READ = 1024  # keys: each is read out by itself, and has a column in the picture


def read_out(s: Setting, inputs: Inputs) -> Any:
    """The weights [B, H, T, S]: values are 1 for one key and 0 for the others, `d_head` keys in one call. Of a buffer:
    those of the rows that the longest sequence has, and the sum of all further ones."""
    d, n = s.d_head, read_keys(inputs)
    columns = []
    for first in range(0, n, d):
        v = np.zeros_like(inputs.v)
        for channel, key in enumerate(range(first, min(first + d, n))):
            v[:, key, :, channel] = 1.0
        got, _ = call_attention(s, inputs._replace(v=v))
        columns.append(got[..., : min(d, n - first)])
    if n < inputs.k.shape[1]:
        v = np.zeros_like(inputs.v)
        v[:, n:] = 1.0
        columns.append(call_attention(s, inputs._replace(v=v))[0][..., :1])
    return np.concatenate(columns, axis=-1).transpose(0, 2, 1, 3)


def read_keys(inputs: Inputs) -> int:
    """How many keys are read out one by one: all, or as many as the longest sequence of a buffer has."""
    return int(inputs.k.shape[1] if inputs.lengths is None else inputs.lengths.max())


def read_heads(s: Setting, inputs: Inputs) -> list[int | None]:
    """The key/value head that each query head reads; None: none or several."""
    weights = []
    for g in range(s.kv_heads):
        v = np.zeros_like(inputs.v)
        v[:, :, g] = 1.0
        weights.append(np.abs(call_attention(s, inputs._replace(v=v))[0]).max(axis=(0, 1, 3)))
    seen = np.stack(weights) > 1e-6
    return [int(np.argmax(column)) if column.sum() == 1 else None for column in seen.T]


def is_linear(s: Setting, inputs: Inputs, allowed: float) -> bool | None:
    """Do values of 0 give an output of 0? None: no number of the output is finite, which shows neither."""
    worst = max_abs(call_attention(s, inputs._replace(v=np.zeros_like(inputs.v)))[0])
    return None if np.isnan(worst) else worst <= allowed


def read_weights(s: Setting, inputs: Inputs, allowed: float) -> Weights:
    """Which keys each query sees, in the first head in which that is wrong, and which key/value heads are read.
    UnreadableError: the function cannot be called so."""
    got, heads = read_out(s, inputs), read_heads(s, inputs)
    t, n, limit = inputs.q.shape[1], got.shape[-1], max(allowed, 1e-12)
    sees = np.abs(np.nan_to_num(got, nan=1.0)) > limit
    lengths = [n] if inputs.lengths is None else [int(length) for length in inputs.lengths]
    must = [must_see(t, length, n, s.window) for length in lengths]
    places = [(i, h) for i in range(len(must)) for h in range(s.heads)]
    differing = [(i, h) for i, h in places if not np.array_equal(sees[i, h], must[i])]
    i, head = (differing or [(0, 0)])[0]
    sums = bool(np.abs(got.sum(axis=-1) - 1.0).max() <= max(100 * allowed, 1e-9))
    buffer = None if inputs.lengths is None else (i, lengths[i], read_keys(inputs))
    read = [h // (s.heads // s.kv_heads) for h in range(s.heads)]
    return Weights(head, sees[i, head], must[i], heads, read, sums, buffer)


def must_see(queries: int, length: int, columns: int, window: int | None) -> Any:
    """[T, columns] booleans: which keys the last `queries` of `length` positions see."""
    query, key = np.arange(length - queries, length)[:, None], np.arange(columns)
    return (key <= query) & (key > query - (length + 1 if window is None else window))
