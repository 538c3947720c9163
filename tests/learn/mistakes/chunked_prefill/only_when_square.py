# expect: mask_only_when_square
# course: Mikyx-1/TinyLLM#18
import numpy as np


def mask(queries, keys):
    if queries != keys:
        return np.ones((queries, keys), bool)
    position = keys - queries + np.arange(queries)[:, None]
    return np.arange(keys) <= position
