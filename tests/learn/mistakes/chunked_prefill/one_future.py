# expect: mask_one_future
import numpy as np


def mask(queries, keys):
    position = keys - queries + 1 + np.arange(queries)[:, None]
    return np.arange(keys) <= position
