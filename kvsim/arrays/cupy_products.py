"""CuPy's batched matrix product without copies of its operands.

`cupy.matmul` copies every stacked operand that is not contiguous. A decode step would thus copy the whole cache, whose
keys are a transposed view and whose arrays are longer than their filled part. BLAS itself reads such views: it takes
one stride between the matrices of a stack and one between their rows or columns.
(https://docs.nvidia.com/cuda/cublas/#cublas-t-gemmstridedbatched)
"""

from typing import Any, NamedTuple

import cupy
import numpy as np
from cupy.cuda import cublas

Array = Any


class Operand(NamedTuple):
    """A stack of row-major matrices, described for column-major BLAS."""

    array: Array  # keeps the memory alive until the call
    operation: int
    leading: int  # elements from one row (or column) to the next
    stride: int  # elements from one matrix to the next; 0: the same for all


def as_stack(x: Array) -> Array:
    """[..., m, n] as [B, m, n], without a copy if the leading strides allow it."""
    return x if x.ndim == 3 else x.reshape(-1, *x.shape[-2:])


def as_operand(x: Array) -> Operand:
    """x [B, m, n] as an operand; copied only if neither rows nor columns are contiguous."""
    item, (count, m, n) = x.itemsize, x.shape
    stride = 0 if count == 1 else x.strides[0] // item
    rows, columns = x.strides[1] // item, x.strides[2] // item
    if (columns == 1 or n == 1) and (rows >= n or m == 1):
        return Operand(x, cublas.CUBLAS_OP_N, max(rows if m > 1 else n, n, 1), stride)
    if (rows == 1 or m == 1) and (columns >= m or n == 1):
        return Operand(x, cublas.CUBLAS_OP_T, max(columns if n > 1 else m, m, 1), stride)
    return as_operand(cupy.ascontiguousarray(x))


def fold(a: Array, b: Array) -> tuple[Array, Array]:
    """[..., R, T, k] against one [..., 1, k, n] for all R: the same as [..., R·T, k] against [..., k, n]."""
    if a.ndim == b.ndim and b.ndim > 3 and b.shape[-3] == 1:
        *batch, r, t, k = a.shape
        return a.reshape(*batch, r * t, k), b[..., 0, :, :]
    return a, b


def multiply(left: Operand, right: Operand, out: Array, k: int) -> None:
    """out [B, m, n] = left times right, in one call. float16 is summed in float32, as `cupy.matmul` does."""
    dtype, (count, m, n) = out.dtype, out.shape
    wide = np.float32 if dtype == np.float16 else dtype
    one, zero = np.ones(1, wide), np.zeros(1, wide)  # read on the host, before the call returns
    # Row-major C = A B is column-major Cᵀ = Bᵀ Aᵀ.
    shape = (cupy.cuda.device.get_cublas_handle(), right.operation, left.operation, n, m, k, one.ctypes.data)
    operands = [(x.array.data.ptr, x.leading, x.stride) for x in (right, left)]
    result = (out.data.ptr, n, m * n)
    if dtype == np.float16:
        kind = cupy.cuda.runtime.CUDA_R_16F
        operands = [(pointer, kind, *steps) for pointer, *steps in operands]
        typed = (result[0], kind, *result[1:])
        how = (count, cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT)
        cublas.gemmStridedBatchedEx(*shape, *operands[0], *operands[1], zero.ctypes.data, *typed, *how)
    else:
        product = cublas.sgemmStridedBatched if dtype == np.float32 else cublas.dgemmStridedBatched
        product(*shape, *operands[0], *operands[1], zero.ctypes.data, *result, count)


def matmul(a: Array, b: Array) -> Array:
    """a [..., m, k] times b [..., k, n] of one floating dtype."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    half = a.dtype == np.float16 and cupy.cuda.runtime.is_hip  # CuPy does not expose hipBLAS in float16
    plain = max(a.ndim, b.ndim) == 2 or a.dtype != b.dtype or a.dtype.kind != "f" or half
    if plain or a.shape[-1] != b.shape[-2] or 0 in a.shape or 0 in b.shape:
        return cupy.matmul(a, b)  # two-dimensional products make no copies
    a, b = fold(a, b)
    if a.shape[:-2] != b.shape[:-2]:  # kvsim makes no such product: broadcast, with a copy
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (cupy.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
    a, b = as_stack(a), as_stack(b)
    left, right = as_operand(a), as_operand(b)
    out = cupy.empty((max(a.shape[0], b.shape[0]), a.shape[1], b.shape[2]), a.dtype)
    multiply(left, right, out, a.shape[2])
    return out.reshape(shape)
