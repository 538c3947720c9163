import numpy as np


def mask(queries, keys):
    return np.tri(queries, keys, k=keys - queries, dtype=int)
