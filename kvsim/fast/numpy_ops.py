"""The operations of `kvsim.ops`, faster for NumPy: results are written in place into arguments that the transformer
does not read again, and large arrays are processed in blocks of rows that fit into the processor's cache, on several
threads if they are large enough.

Results equal those of `kvsim.ops` up to rounding. An array that a watcher has been shown is never overwritten.
"""

import math
import os
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from kvsim.arrays import Array
from kvsim.arrays.host import usable_processors
from kvsim.ops import Ops
from kvsim.weights import Linear, Norm

BLOCK_BYTES = 1 << 18  # of one array in one block: two or three fit into a core's L2 cache
EXP_LIMIT = {char: math.log(float(np.finfo(char).max)) - 1.0 for char in "fd"}  # exp of it is finite
reduce_sum, reduce_max = np.add.reduce, np.maximum.reduce  # skips the dispatch of np.sum and np.max
THREAD_BYTES = 1 << 21  # below this, submitting work to a thread costs more than it saves


@cache
def count_threads() -> int:
    """The number of threads that BLAS uses: OMP_NUM_THREADS and the like, at most the usable processors. Of a list, one
    number for each level of nesting, the first counts; any other text is ignored, as by BLAS."""
    asked = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    found = (re.match(r"\s*([0-9]{1,9})\s*(,|\Z)", text) for text in asked)
    return min([usable_processors(), *(int(one[1]) for one in found if one and int(one[1]) > 0)])


@cache
def pool() -> Any:
    from concurrent.futures import ThreadPoolExecutor  # imported late: most runs never need it

    return ThreadPoolExecutor(count_threads(), thread_name_prefix="kvsim")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a forked child inherits the pool without its threads


def in_blocks(work: Callable[[int, int], None], rows: int, row_bytes: int) -> None:
    """Call `work(start, stop)` for disjoint blocks that cover all rows, in any order."""
    size = max(1, BLOCK_BYTES // max(row_bytes, 1))
    if rows <= size:
        work(0, rows)
        return
    bounds = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    if count_threads() == 1 or rows * row_bytes < THREAD_BYTES:
        for start, stop in bounds:
            work(start, stop)
        return
    for done in [pool().submit(work, *bound) for bound in bounds]:
        done.result()


def _softmax(scores: Array, out: Array) -> None:
    np.subtract(scores, reduce_max(scores, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= reduce_sum(out, axis=-1, keepdims=True)


class FastOps(Ops):
    """`Ops` on NumPy arrays."""

    def linear(self, kind: str, x: Array, w: Linear) -> Array:
        y = self.matmul(kind, x, w.weight.mT)
        if w.bias is not None:
            y += w.bias
        return y

    def add(self, x: Array, y: Array) -> Array:
        if x.shape != y.shape:
            return x + y
        y += x
        return y

    def scale(self, x: Array, factor: float) -> Array:
        x *= factor
        return x

    def mask(self, scores: Array, allowed: Array, first: int) -> Array:
        if self.was_shown(scores):
            return super().mask(scores, allowed, first)
        part = scores[..., first:]
        np.copyto(part, -math.inf, where=~allowed[..., first:])
        return scores

    def norm(self, kind: str, x: Array, w: Norm, eps: float) -> Array:
        """One row is normalised with Python floats, which halves the number of NumPy calls."""
        if self.wide_dtype != self.dtype or x.ndim != 2 or x.shape[0] != 1:
            return super().norm(kind, x, w, eps)
        size = x.shape[1]
        if kind == "layer":
            x = x - float(reduce_sum(x[0])) / size
        y = x / math.sqrt(float(reduce_sum((x * x)[0])) / size + eps)
        if w.gain is not None:
            y *= w.gain
        if w.bias is not None:
            y += w.bias
        return y

    def softmax(self, scores: Array, sinks: Array | None = None) -> Array:
        if self.wide_dtype != self.dtype or sinks is not None or not scores.flags.c_contiguous:
            return super().softmax(scores, sinks)
        out = np.empty_like(scores) if self.was_shown(scores) else scores
        if scores.nbytes <= BLOCK_BYTES:
            _softmax(scores, out)
            return out
        flat, result = scores.reshape(-1, scores.shape[-1]), out.reshape(-1, scores.shape[-1])

        def work(start: int, stop: int) -> None:
            _softmax(flat[start:stop], result[start:stop])

        in_blocks(work, flat.shape[0], flat.itemsize * flat.shape[1])
        return out

    def argmax(self, logits: Array) -> int:
        chosen = int(logits.argmax())  # the first NaN, if there is one
        return -1 if math.isnan(logits[chosen]) else chosen

    def activate(self, kind: str, x: Array) -> Array:
        function: Callable[[Any], None] | None = getattr(self, f"_fast_{kind}", None)
        if function is not None and x.shape[0] == 1 and self.wide_dtype == self.dtype:
            function(x)
            return x
        if function is None or self.wide_dtype != self.dtype or not (x.ndim == 2 or x.flags.c_contiguous):
            return super().activate(kind, x)
        flat = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        in_blocks(lambda start, stop: function(flat[start:stop]), flat.shape[0], flat.itemsize * flat.shape[1])
        return x

    def gated(self, kind: str, gate: Array, up: Array) -> Array:
        gate = self.activate(kind, gate)
        gate *= up
        return gate

    # Activations, in place

    @staticmethod
    def _fast_gelu_tanh(x: Array) -> None:
        t = x * x
        t *= 0.044715 * math.sqrt(2.0 / math.pi)
        t += math.sqrt(2.0 / math.pi)
        t *= x
        np.tanh(t, out=t)
        t += 1.0
        x *= 0.5
        x *= t

    @staticmethod
    def _fast_silu(x: Array) -> None:
        t = np.negative(x)
        np.minimum(t, EXP_LIMIT[x.dtype.char], out=t)  # beyond the limit silu(x) rounds to 0
        np.exp(t, out=t)
        t += 1.0
        x /= t

    @staticmethod
    def _fast_relu(x: Array) -> None:
        np.maximum(x, 0.0, out=x)
