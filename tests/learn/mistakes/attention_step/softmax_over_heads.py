# expect: softmax_over_heads
import numpy as np


def attention(q, k, v):
    heads, t, d = q.shape
    s = k.shape[1]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(d)
    hidden = np.arange(s) > s - t + np.arange(t)[:, None]
    weights = np.exp(np.where(hidden, -1e9, scores))
    weights = weights / weights.sum(axis=0, keepdims=True)
    return weights @ v
