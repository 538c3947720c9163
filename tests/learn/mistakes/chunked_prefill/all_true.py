# expect: mask_missing
import numpy as np


def mask(queries, keys):
    position = keys - queries + np.arange(queries)[:, None]
    return position >= 0 * np.arange(keys)
