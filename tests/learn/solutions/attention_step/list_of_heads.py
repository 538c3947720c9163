import numpy as np


def one_head(q, k, v):
    t, s = len(q), len(k)
    rows = []
    for i in range(t):
        seen = s - t + i + 1
        scores = k[:seen] @ q[i] / np.sqrt(q.shape[1]).astype(q.dtype)
        weights = np.exp(scores - scores.max())
        rows.append((weights / weights.sum()) @ v[:seen])
    return np.stack(rows)


def attention(q, k, v):
    return [one_head(*head) for head in zip(q, k, v, strict=True)]
