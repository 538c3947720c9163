"""10 gqa. The task: kvsim learn show 10. Save, and run kvsim learn run 10."""

import numpy as np  # noqa: F401


def append(kept, rows, heads):
    """What the cache keeps, [G, S, D]: the T new rows [G, T, D] behind the old ones. Called for keys, and for values.

    kept: None at first, then what this function returned before; heads: H, the number of query heads.
    """
    raise NotImplementedError("write append")


def attend(q, keys, values):
    """Causal attention [H, T, D] of the T newest positions, q [H, T, D], over all S that keys, values [G, S, D] hold.

    H is a multiple of G.
    """
    raise NotImplementedError("write attend")
