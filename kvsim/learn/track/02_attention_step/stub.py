"""02 attention_step. The task: kvsim learn show 02. Save, and run kvsim learn run 02."""

import numpy as np  # noqa: F401


def attention(q, k, v):
    """Causal attention. q [H, T, D]: the T newest positions; k, v [H, S, D]: all S positions, oldest first.
    Returns [H, T, D]."""
    raise NotImplementedError("write attention")
