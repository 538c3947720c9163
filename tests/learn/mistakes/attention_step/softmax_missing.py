# expect: softmax_missing
import numpy as np


def attention(q, k, v):
    heads, t, d = q.shape
    s = k.shape[1]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(d)
    hidden = np.arange(s) > s - t + np.arange(t)[:, None]
    weights = np.where(hidden, 0.0, scores)
    return weights @ v
