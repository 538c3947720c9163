"""The same operations for NumPy on the processor, made fast: results are written over what is used up, and large
arrays are worked on in blocks of rows that stay in the processor's cache, on several threads where that pays.

Results are those of `kvsim.ops` up to rounding. No array that a watcher was shown is overwritten.
"""

import math
import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from kvsim.arrays import Array, Backend
from kvsim.config import Pairs
from kvsim.ops import Ops
from kvsim.processors import usable_processors
from kvsim.weights import Linear, Norm

BLOCK_BYTES = 1 << 18  # of one array in one block: two or three such fit into a core's own cache
LARGEST = {char: math.log(float(np.finfo(char).max)) - 1.0 for char in "fd"}  # whose exp is finite
add_up, largest_of = np.add.reduce, np.maximum.reduce  # the methods, without the functions' detours
THREAD_BYTES = 1 << 21  # below this, handing work to a thread costs more than it saves


@cache
def count_threads() -> int:
    """As many as the product uses: OMP_NUM_THREADS and its like, at most the processors this process may use."""
    asked = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return min([usable_processors(), *(int(text) for text in asked if text.isdigit() and int(text) > 0)])


@cache
def pool() -> Any:
    from concurrent.futures import ThreadPoolExecutor  # takes longer to import than most runs need it for

    return ThreadPoolExecutor(count_threads(), thread_name_prefix="kvsim")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a child has the pool, but none of its threads


def in_blocks(work: Callable[[int, int], None], rows: int, row_bytes: int) -> None:
    """`work(start, stop)` for blocks of all rows, in any order: each row is one block's alone."""
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


class Joined(NamedTuple):
    """Weights whose rows lie one below the other in one array (`kvsim.loading.joined`), and their biases likewise."""

    parts: tuple[Array | None, ...]  # weights [out, in] and biases [out], as the model has them
    across: Array | None  # [in, all of out]; None: they do not lie so
    bias: Array | None  # [all of out]
    columns: tuple[slice, ...]  # of the product, one for each part


def arrays_in(ws: Sequence[Linear]) -> list[Array | None]:
    """Their arrays, by which they are known again."""
    return [x for w in ws for x in (w.weight, w.bias)]


def find_whole(parts: Sequence[Array]) -> Array | None:
    """The array that consists of these rows, one part after the other; None: there is none."""
    whole, row = parts[0].base, 0
    if not isinstance(whole, np.ndarray) or not whole.flags.c_contiguous:
        return None
    for part in parts:
        alike = part.dtype == whole.dtype and part.shape[1:] == whole.shape[1:] and part.strides == whole.strides
        if part.base is not whole or not alike or part.ctypes.data != whole[row:].ctypes.data:
            return None
        row += part.shape[0]
    return whole if row == whole.shape[0] else None


def join(ws: Sequence[Linear]) -> Joined:
    """The weights as one, if they lie so: no copy, so that whoever changes a weight changes this."""
    biases = [w.bias for w in ws if w.bias is not None]
    whole, bias = find_whole([w.weight for w in ws]), find_whole(biases) if biases else None
    if whole is None or len(biases) not in (0, len(ws)) or (biases and bias is None):
        return Joined(tuple(arrays_in(ws)), None, None, ())
    rows = [0, *accumulate(w.weight.shape[0] for w in ws)]
    return Joined(tuple(arrays_in(ws)), whole.T, bias, tuple(slice(*pair) for pair in pairwise(rows)))


def _softmax(scores: Array, out: Array) -> None:
    np.subtract(scores, largest_of(scores, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= add_up(out, axis=-1, keepdims=True)


class FastOps(Ops):
    """`Ops` on NumPy arrays."""

    def __init__(self, backend: Backend, dtype: str) -> None:
        super().__init__(backend, dtype)
        self._joined: dict[int, Joined] = {}

    def linear(self, kind: str, x: Array, w: Linear) -> Array:
        y = self.matmul(kind, x, w.weight.mT)
        if w.bias is not None:
            y += w.bias
        return y

    def joined(self, ws: Sequence[Linear]) -> Joined:
        """The weights as one, found once."""
        joined = self._joined.get(id(ws[0].weight))
        if joined is None or not all(map(is_, joined.parts, arrays_in(ws))):
            joined = self._joined[id(ws[0].weight)] = join(ws)  # which keeps the weights: their ids stay theirs
        return joined

    def linears(self, kinds: Sequence[str], x: Array, ws: Sequence[Linear]) -> tuple[Array, ...]:
        """One product for all, where the weights lie one below the other; an event for each all the same."""
        joined = self.joined(ws)
        if joined.across is None:
            return super().linears(kinds, x, ws)
        widths = [w.weight.shape[0] for w in ws]
        y = self.matmul("", x, joined.across, parts=tuple(zip(kinds, widths, strict=True)))
        if joined.bias is not None:
            y += joined.bias
        return tuple([y[:, columns] for columns in joined.columns])

    def angles(self, pairs: Pairs, cos_TJ: Array, sin_TJ: Array) -> Any:
        axis = 1 if pairs == "halves" else 2  # where the two of a pair lie side by side
        cos, sin = (x[:, None, :] if axis == 1 else x[:, :, None] for x in (cos_TJ, sin_TJ))
        return cos, self.xp.concat((-sin, sin), axis=axis)

    def turn(self, pairs: Pairs, x: Array, angles: Any) -> Array:
        cos, sin = angles
        two = x.reshape(*x.shape[:-1], *sin.shape[1:])
        y = two * cos
        y += (two[..., ::-1, :] if pairs == "halves" else two[..., ::-1]) * sin
        return y.reshape(x.shape)

    def plus(self, x: Array, y: Array) -> Array:
        if x.shape != y.shape:
            return x + y
        y += x
        return y

    def times(self, x: Array, factor: float) -> Array:
        x *= factor
        return x

    def masked(self, scores: Array, allowed: Array, first: int) -> Array:
        if self.was_shown(scores):
            return super().masked(scores, allowed, first)
        part = scores[..., first:]
        np.copyto(part, -math.inf, where=~allowed[..., first:])
        return scores

    def norm(self, kind: str, x: Array, w: Norm, eps: float) -> Array:
        if self.wide_dtype != self.dtype or x.ndim != 2:
            return super().norm(kind, x, w, eps)
        if x.shape[0] == 1:
            return self.norm_row(x, kind, w.gain, w.bias, eps, np.empty_like(x))
        size, gain, bias = x.shape[1], w.gain, w.bias
        y = np.empty_like(x)

        def work(start: int, stop: int) -> None:
            block, out = x[start:stop], y[start:stop]
            if kind == "layer":
                mean = add_up(block, axis=1, keepdims=True)
                mean /= size
                block = np.subtract(block, mean, out=out)
            scale = add_up(block * block, axis=1, keepdims=True)
            scale /= size
            scale += eps
            np.divide(block, np.sqrt(scale, out=scale), out=out)
            if gain is not None:
                out *= gain
            if bias is not None:
                out += bias

        in_blocks(work, x.shape[0], x.itemsize * size)
        return y

    @staticmethod
    def norm_row(x: Array, kind: str, gain: Array | None, bias: Array | None, eps: float, out: Array) -> Array:
        """One row, whose statistics are numbers and not arrays: half of the calls, of which a step makes many."""
        size = x.shape[1]
        if kind == "layer":
            x = np.subtract(x, float(add_up(x[0])) / size, out=out)
        scale = math.sqrt(float(add_up((x * x)[0])) / size + eps)
        np.divide(x, scale, out=out)
        if gain is not None:
            np.multiply(out, gain, out=out)
        if bias is not None:
            np.add(out, bias, out=out)
        return out

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

    def fast_activation(self, kind: str) -> Callable[[Any], None] | None:
        """The activation `kind`, over what it is given, if it has been made fast."""
        return getattr(self, f"_fast_{kind}", None)

    def activate(self, kind: str, x: Array) -> Array:
        function = self.fast_activation(kind)
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

    # Activations, each over what it was given

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
        np.minimum(t, LARGEST[x.dtype.char], out=t)  # beyond it the result is 0 to more digits than there are
        np.exp(t, out=t)
        t += 1.0
        x /= t

    @staticmethod
    def _fast_relu(x: Array) -> None:
        np.maximum(x, 0.0, out=x)
