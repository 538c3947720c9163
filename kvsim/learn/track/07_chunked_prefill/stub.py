"""07 chunked_prefill. The task: kvsim learn show 07. Save, and run kvsim learn run 07."""

import numpy as np  # noqa: F401


def mask(queries, keys):
    """Which keys each query sees: booleans [queries, keys], True where it does. The queries are the newest of the keys."""
    raise NotImplementedError("write mask")
