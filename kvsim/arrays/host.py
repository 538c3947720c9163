"""NumPy on the processor: its own array-API namespace since version 2."""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from kvsim.arrays import Backend
from kvsim.arrays.contract import narrow
from kvsim.errors import UsageError, shortened

DTYPES = ("float32", "float64", "float16")


def usable_processors() -> int:
    """The number of processors that this process may use: a container or `taskset` may allow fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_device(backend: str, device: str | None) -> None:
    """UsageError for any device but the processor."""
    if device not in (None, "cpu"):
        raise UsageError(
            "the backend {backend} runs on the device cpu, not on {device}", backend=backend, device=shortened(device)
        )


FEW_ROWS = 64


def matmul(a: Any, b: Any) -> Any:
    """a times b. A few rows times a column-major matrix (the transpose of every weight) are multiplied as (bᵀ aᵀ)ᵀ:
    BLAS then reads the matrix sequentially, 1.5 to 2 times as fast for 2 to 64 rows."""
    if a.ndim == 2 and b.ndim == 2 and 1 < a.shape[0] <= FEW_ROWS and b.flags.f_contiguous:
        return np.ascontiguousarray(np.matmul(b.T, a.T).T)
    return np.matmul(a, b)


# Array methods instead of NumPy's functions, which add dispatch overhead: a step makes hundreds of calls on arrays of a
# few rows.
METHODS: dict[str, Any] = {
    "matmul": matmul,
    "reshape": lambda x, shape: x.reshape(shape),
    "permute_dims": lambda x, axes: x.transpose(axes),
    "matrix_transpose": lambda x: x.mT,
    "astype": lambda x, dtype, copy=True: x.astype(dtype, copy=copy),
    "take": lambda x, indices, axis: x.take(indices, axis),
}


class HostNamespace(SimpleNamespace):
    """A narrowed NumPy namespace, plus float8_e4m3fn of ml_dtypes, imported at first use."""

    def __getattr__(self, name: str) -> Any:
        if name != "float8_e4m3fn":
            raise AttributeError(name)
        try:
            from ml_dtypes import float8_e4m3fn
        except ImportError as error:
            raise AttributeError(name) from error
        self.float8_e4m3fn = float8_e4m3fn
        return float8_e4m3fn


def open_backend(device: str | None) -> Backend:
    refuse_device("numpy", device)
    return Backend("numpy", HostNamespace(**vars(narrow(np, **METHODS))), None, DTYPES, np.asarray, in_place=True)
