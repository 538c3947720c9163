# expect: mask_inverted
import numpy as np


def mask(queries, keys):
    position = keys - queries + np.arange(queries)[:, None]
    return np.arange(keys) > position
