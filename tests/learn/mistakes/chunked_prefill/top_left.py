# expect: mask_top_left
import numpy as np


def mask(queries, keys):
    position = np.arange(queries)[:, None]
    return np.arange(keys) <= position
