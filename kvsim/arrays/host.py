"""NumPy on the processor: its own array-API namespace since version 2."""

import numpy as np

from kvsim.arrays import Backend
from kvsim.errors import UsageError


def open_backend(device: str | None) -> Backend:
    if device not in (None, "cpu"):
        raise UsageError("the backend numpy runs on the device cpu, not on {device}", device=device)
    return Backend("numpy", np, None, ("float32", "float64", "float16"), np.asarray)
