"""NumPy with a fixed order of summation: cached and uncached runs agree bit for bit.

BLAS adds the products of one row in a different order than those of several rows, so the same sum rounds differently
with and without a cache. Here every sum starts at 0 and is added from left to right: masked products, which are zeros,
change nothing at any place. (A fixed tree would not work: leading zeros shift the other terms.) Sums of float16 are
accumulated in float32 and rounded once, as in NumPy's own product.

NumPy's vector code computes exp, tanh, sin and cos differently for some strides and for arrays without
dimensions; here they always get contiguous arrays of at least one dimension. The remaining operations
(+ - * / sqrt) are correctly rounded by IEEE 754 for every layout.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.arrays import Backend
from kvsim.arrays.contract import narrow
from kvsim.arrays.host import DTYPES, HostNamespace, refuse_device


def _wide(x: np.ndarray) -> Any:
    """The dtype in which sums over x are accumulated."""
    return np.float32 if x.dtype == np.float16 else x.dtype


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [..., m, k] times b [..., k, n]: for every element ((0 + a₀b₀) + a₁b₁) + ..."""
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not go together")
    wide = _wide(a)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = np.zeros((*batch, a.shape[-2], b.shape[-1]), wide)
    columns = np.moveaxis(a, -1, 0)[..., None].astype(wide, order="C", copy=False)  # k of [..., m, 1]
    rows = np.moveaxis(b, -2, 0)[..., None, :].astype(wide, order="C", copy=False)  # k of [..., 1, n]
    for column, row in zip(columns, rows, strict=True):
        total += column * row
    return total.astype(b.dtype, copy=False)


def add_up(x: np.ndarray, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> np.ndarray:
    """The sum over `axis` from left to right, starting at 0. Several axes count as one, in order."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = tuple(a % x.ndim for a in axes)
    kept = tuple(size for a, size in enumerate(x.shape) if a not in axes)
    first = np.moveaxis(x, axes, range(len(axes))).reshape(-1, *kept)
    total = np.zeros(kept, _wide(x))
    for part in first:
        total += part
    shape = tuple(1 if a in axes else size for a, size in enumerate(x.shape)) if keepdims else kept
    return total.reshape(shape).astype(x.dtype, copy=False)


def mean(x: np.ndarray, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> np.ndarray:
    """The mean: the sum of `add_up`, divided once."""
    total = add_up(x, axis, keepdims)
    return total / (x.size // max(total.size, 1))


def in_order(function: Callable[..., Any]) -> Callable[[np.ndarray], np.ndarray]:
    """`function`, always called on contiguous arrays of at least one dimension."""

    def apply(x: np.ndarray) -> np.ndarray:
        return np.asarray(function(np.ascontiguousarray(x))).reshape(x.shape)

    return apply


def open_backend(device: str | None) -> Backend:
    refuse_device("exact", device)
    own = {name: in_order(getattr(np, name)) for name in ("exp", "tanh", "sin", "cos")}
    namespace = HostNamespace(**vars(narrow(np, matmul=matmul, sum=add_up, mean=mean, **own)))
    return Backend("exact", namespace, None, DTYPES, np.asarray, fixed_order=True)
