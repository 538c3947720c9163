"""CuPy's `sort` and `argsort` on the host stand-in. CuPy calls precompiled kernels (Thrust), which have no host
version: here NumPy sorts the same memory. Both sorts are stable and put NaN last."""

import ctypes
import math

import numpy as np


def _array(address, dtype, shape):
    """The memory at `address` as a NumPy array."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), dtype).reshape(shape)


def sort(dtype, data, keys, shape):
    """Sorts the array at `data` along its last axis, in place."""
    _array(data, dtype, shape).sort(axis=-1, kind="stable")


def argsort(dtype, indices, data, keys, shape):
    """Writes the indices that sort the array at `data` to `indices`, int64."""
    _array(indices, np.int64, shape)[...] = np.argsort(_array(data, dtype, shape), axis=-1, kind="stable")


def install(monkeypatch):
    """Replaces both until the end of the test."""
    from cupy.cuda import thrust

    monkeypatch.setattr(thrust, "sort", sort)
    monkeypatch.setattr(thrust, "argsort", argsort)
