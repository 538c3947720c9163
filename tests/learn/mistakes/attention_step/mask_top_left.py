# expect: mask_top_left
import numpy as np


def attention(q, k, v):
    heads, t, d = q.shape
    s = k.shape[1]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(d)
    hidden = np.arange(s) > np.arange(t)[:, None]
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights @ v
