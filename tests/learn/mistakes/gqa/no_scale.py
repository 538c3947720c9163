# expect: scale_missing
import numpy as np


def append(kept, rows, heads):
    return rows if kept is None else np.concatenate([kept, rows], axis=1)


def attend(q, keys, values):
    repeats = len(q) // len(keys)
    keys = np.repeat(keys, repeats, axis=0)
    values = np.repeat(values, repeats, axis=0)
    t, s, d = q.shape[1], keys.shape[1], q.shape[2]
    scores = q @ keys.transpose(0, 2, 1)
    hidden = np.arange(s) > s - t + np.arange(t)[:, None]
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ values
