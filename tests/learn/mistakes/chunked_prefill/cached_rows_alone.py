# expect: new_token_not_visible
# course: harvard-edge/cs249r_book#1953
import numpy as np


def mask(queries, keys):
    if queries != keys:
        return np.tile(np.arange(keys) < keys - queries, (queries, 1))
    position = keys - queries + np.arange(queries)[:, None]
    return np.arange(keys) <= position
