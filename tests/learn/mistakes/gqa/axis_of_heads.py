# expect: concat_wrong_axis
import numpy as np


def append(kept, rows, heads):
    g, t, d = rows.shape
    if kept is None:
        return rows
    return np.concatenate([kept.reshape(-1, d), rows.reshape(-1, d)]).reshape(g, -1, d)


def attend(q, keys, values):
    repeats = len(q) // len(keys)
    keys = np.repeat(keys, repeats, axis=0)
    values = np.repeat(values, repeats, axis=0)
    t, s, d = q.shape[1], keys.shape[1], q.shape[2]
    scores = q @ keys.transpose(0, 2, 1) / np.sqrt(d)
    hidden = np.arange(s) > s - t + np.arange(t)[:, None]
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ values
