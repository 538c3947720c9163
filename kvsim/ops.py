"""The operations that models are made of, on any array library.

A model passes one `Ops` object to all its parts: the array namespace and, for each thread, the open ledgers, the
watchers and the scope. `Ops.matmul` is the only matrix product of the package. Shapes use the letters of
`kvsim.transformer`. "May overwrite x" means that a faster implementation computes in place: the caller must not read
x again.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from typing import Any

from kvsim.arrays import Array, Backend
from kvsim.arrays.erf import erf
from kvsim.config import Pairs
from kvsim.counting.events import KINDS
from kvsim.counting.records import Counting, Place, Record, Records, Running, Scope, Watching
from kvsim.weights import Linear, Norm


def _itself(ops: "Ops") -> "Ops":
    """The argument: a copy is pickled as the operations that it is a copy of."""
    return ops


class Ops:
    """Operations on `backend` in `dtype` ("float32"), counted and watched."""

    def __init__(self, backend: Backend, dtype: str) -> None:
        self.backend = backend
        self.xp: Any = backend.xp
        self.device = backend.device
        self.dtype = backend.dtype(dtype)
        self.dtype_name = dtype
        # Norms and softmax of 16-bit numbers are computed in 32 bits, as engines do.
        self.wide_dtype = self.xp.float32 if dtype in ("float16", "bfloat16") else self.dtype
        self.query_block: int | None = None  # queries that attention computes at a time; None: all, full squares
        self.item_bytes = int(self.xp.finfo(self.dtype).bits) // 8
        self.copy_of: Ops | None = None  # the model's operations, if this is a copied cache's copy
        self.root = Place()
        self._records = Records(self.root, [])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ops":
        """A copy without open ledgers or watchers. A cache that is copied alone holds such a copy and still belongs
        to its model; a copied model owns its copy (`Model.__setstate__`), as do the caches copied together with it."""
        if self.copy_of is not None:
            return deepcopy(self.copy_of, memo)
        made: Ops = copy(self)
        made.copy_of = self
        return made

    def __reduce__(self) -> Any:
        """Backend, dtype and options; the state of threads (open ledgers, watchers, scopes) is not pickled."""
        if self.copy_of is not None:
            return _itself, (self.copy_of,)
        options = {"query_block": self.query_block, "wide_dtype": self.wide_dtype}
        return type(self), (self.backend, self.dtype_name), options

    def running(self) -> Running:
        """A context for every computation, outside of all scopes: selects the device, translates its errors, and
        leaves every scope at the end."""
        return Running(self._records.here, self.root, self.backend.running())

    # Scopes, ledgers, watchers

    @property
    def here(self) -> Record:
        """The record of the calling thread."""
        return self._records.here

    def at(self, *names: object) -> Scope:
        """A scope in which sites and watched names begin with `names`, joined by dots."""
        return Scope(self._records.here, names)

    def count(self, *, warns: bool = False) -> Counting:
        """A context with a ledger of every product that this thread runs in it. Ledgers nest: each records all products
        of its block. `warns`: reading it warns of products of other threads (`Ledger.left_out`)."""
        return Counting(self._records, warns)

    def watch(self, *patterns: str) -> Watching:
        """A context that keeps the arrays of this thread at places whose names match a pattern ("layers.*.probs"). It
        changes what runs in one case: blocked attention computes full squares in layers where a pattern matches a place
        inside self-attention (`query` to `context`)."""
        return Watching(self._records, patterns)

    def see(self, name: str, x: Array) -> None:
        """Show `x` to every watcher of the place `name`."""
        here = self._records.here
        for seen in here.watchers:
            seen.show(here.place.prefix + name, x)

    @property
    def has_watchers(self) -> bool:
        """Does this thread watch any place?"""
        return bool(self._records.here.watchers)

    def is_watched(self, *names: str) -> bool:
        """Does a watcher of this thread match one of these places?"""
        here = self._records.here
        if not here.watchers:
            return False
        return any(seen.wants(here.place.prefix + name) for seen in here.watchers for name in names)

    def was_shown(self, x: Array) -> bool:
        """Has this array been shown to a watcher of this thread?"""
        watchers = self._records.here.watchers
        return bool(watchers) and any(seen.has(x) for seen in watchers)

    def _site(self, kind: str) -> str:
        """The full name of a site, cached: a step visits hundreds."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of product {kind!r}: expected one of {', '.join(KINDS)}")
        place = self._records.here.place
        return place.sites.setdefault(kind, place.prefix + kind)

    # Products

    def matmul(self, kind: str, a: Array, b: Array, admitted: tuple[int, int] | None = None) -> Array:
        """The product of a [..., m, k] and b [..., k, n], recorded as one event. The only matrix product of the
        package.

        `admitted`: under a mask, the number of (query, key) pairs that it admits and the number of all pairs.
        """
        product = self.xp.matmul(a, b)
        here = self._records.here
        log = here.tally[0]
        if log is None:
            here.uncounted += 1
        else:
            # Only what `make_event` needs: counting is on the path of every step.
            log.append((here.place.sites.get(kind) or self._site(kind), product.shape, a.shape, admitted))
        return product

    def linear(self, kind: str, x: Array, w: Linear) -> Array:
        """x [T, in] times the transpose of a weight [out, in], plus its bias: [T, out]."""
        y = self.matmul(kind, x, self.xp.matrix_transpose(w.weight))
        return y if w.bias is None else y + w.bias

    # Arrays and elementwise operations

    def to_device(self, array: Any) -> Array:
        """A host array on the device, in the model's dtype."""
        return self.xp.asarray(array, dtype=self.dtype, device=self.device)

    def ids(self, ids: list[int]) -> Array:
        """Host integers [T] as an index array on the device."""
        return self.xp.asarray(ids, dtype=self.xp.int64, device=self.device)

    def arange(self, start: int, stop: int) -> Array:
        """start, start + 1, ... stop - 1 as int64."""
        return self.xp.arange(start, stop, dtype=self.xp.int64, device=self.device)

    def constants(self, count: int, make: Callable[[], Sequence[float]]) -> Array:
        """`count` host numbers as float64. `make` is called only if arrays hold data, since it may need concrete
        sizes."""
        if not self.backend.holds_data:
            return self.xp.empty((count,), dtype=self.xp.float64, device=self.device)
        return self.xp.asarray(make(), dtype=self.xp.float64, device=self.device)

    def add(self, x: Array, y: Array) -> Array:
        """x + y; may overwrite y."""
        return x + y

    def scale(self, x: Array, factor: float) -> Array:
        """factor · x; may overwrite x."""
        return x * factor

    def mask(self, scores: Array, allowed: Array, first: int) -> Array:
        """scores [..., T, S] with -inf where not `allowed` [T, S]; may overwrite them. Columns before `first` are all
        allowed."""
        return self.xp.where(allowed, scores, -math.inf)

    def rotate(self, pairs: Pairs, x: Array, cos_TJ: Array, sin_TJ: Array) -> Array:
        """x [..., T, 2J] with each of its J pairs rotated: (element j, element J + j) for "halves", (2j, 2j + 1) for
        "adjacent" (arXiv:2104.09864)."""
        xp = self.xp
        halves = pairs == "halves"
        size = x.shape[-1] // 2
        left, right = (x[..., :size], x[..., size:]) if halves else (x[..., ::2], x[..., 1::2])
        turned = [left * cos_TJ - right * sin_TJ, right * cos_TJ + left * sin_TJ]
        return xp.concat(turned, axis=-1) if halves else xp.reshape(xp.stack(turned, axis=-1), x.shape)

    def norm(self, kind: str, x: Array, w: Norm, eps: float) -> Array:
        """RMSNorm (arXiv:1910.07467, `kind` "rms") or LayerNorm (arXiv:1607.06450, "layer") of x [T, D]."""
        xp = self.xp
        wide = xp.astype(x, self.wide_dtype, copy=False)
        if kind == "layer":
            wide = wide - xp.mean(wide, axis=-1, keepdims=True)
        scale = xp.sqrt(xp.mean(wide * wide, axis=-1, keepdims=True) + eps)
        y = xp.astype(wide / scale, self.dtype, copy=False)
        y = y if w.gain is None else y * w.gain
        return y if w.bias is None else y + w.bias

    def softmax(self, scores: Array, sinks: Array | None = None) -> Array:
        """Softmax over the last axis; -inf becomes an exact zero. May overwrite the scores.

        `sinks` [..., 1]: an extra score that enters the sum and is then dropped (gpt-oss).
        """
        return self.xp.astype(self.wide_softmax(scores, sinks), self.dtype, copy=False)

    def wide_softmax(self, scores: Array, sinks: Array | None = None) -> Array:
        """The same, returned in `wide_dtype`."""
        xp = self.xp
        wide = xp.astype(scores, self.wide_dtype, copy=False)
        largest = xp.max(wide, axis=-1, keepdims=True)
        if sinks is None:
            weights = xp.exp(wide - largest)
            return weights / xp.sum(weights, axis=-1, keepdims=True)
        sinks = xp.astype(sinks, self.wide_dtype, copy=False)
        largest = xp.maximum(largest, sinks)
        weights = xp.exp(wide - largest)
        return weights / (xp.sum(weights, axis=-1, keepdims=True) + xp.exp(sinks - largest))

    def clamp(self, x: Array, limit: float) -> Array:
        """x limited to [-limit, limit]. Not `clip`: CuPy's, through array-api-compat, synchronises with the device."""
        x = self.xp.where(x > limit, limit, x)
        return self.xp.where(x < -limit, -limit, x)

    def soft_cap(self, x: Array, cap: float) -> Array:
        """cap · tanh(x / cap) (Gemma 2, arXiv:2408.00118)."""
        return cap * self.xp.tanh(x / cap)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), computed from exp(-|x|), which cannot overflow."""
        xp = self.xp
        small = xp.exp(-xp.abs(x))
        return xp.where(x < 0.0, small, 1.0) / (1.0 + small)

    def argmax(self, logits: Array) -> int:
        """The index of the largest of logits [V], the first among equals; -1 if any is NaN. Copies one number to the
        host."""
        xp = self.xp
        return int(xp.where(xp.any(xp.isnan(logits)), -1, xp.argmax(logits)))

    def round_bfloat16(self, x: Array) -> Array:
        """x rounded to bfloat16 (eight significant bits, ties to even), in x's own dtype.

        Adding and subtracting a multiple of x keeps the leading bits (Dekker's splitting).
        """
        wide = self.xp.astype(x, self.xp.float64)
        big = wide * (2.0**45 + 1.0)
        return self.xp.astype(big - (big - wide), x.dtype)

    def gated(self, kind: str, gate: Array, up: Array) -> Array:
        """act(gate) · up (arXiv:2002.05202); may overwrite gate."""
        return self.activate(kind, gate) * up

    def activate(self, kind: str, x: Array) -> Array:
        """The activation `kind` of `kvsim.config.Activation`, elementwise; may overwrite x."""
        wide = self.xp.astype(x, self.wide_dtype, copy=False)
        return self.xp.astype(getattr(self, f"_{kind}")(wide), self.dtype, copy=False)

    def _silu(self, x: Array) -> Array:
        """x · sigmoid(x) (arXiv:1702.03118)."""
        return x * self.sigmoid(x)

    def _quick_gelu(self, x: Array) -> Array:
        """x · sigmoid(1.702 x), the third form of the same paper as `gelu`."""
        return x * self.sigmoid(1.702 * x)

    def _bloom_gelu(self, x: Array) -> Array:
        """gelu_tanh with BLOOM's constant, whose eight digits make a difference in float64."""
        return x * 0.5 * (1.0 + self.xp.tanh(0.79788456 * x * (1.0 + 0.044715 * x * x)))

    def _tanh(self, x: Array) -> Array:
        return self.xp.tanh(x)

    def clipped_swiglu(self, gate: Array, up: Array) -> Array:
        """(up + 1) · gate · sigmoid(1.702 gate), with gate at most 7 and up in [-7, 7] (gpt-oss)."""
        gate = self.xp.where(gate > 7.0, 7.0, gate)
        return (self.clamp(up, 7) + 1.0) * self.activate("quick_gelu", gate)

    def _gelu(self, x: Array) -> Array:
        """x · Φ(x), exact (arXiv:1606.08415)."""
        return 0.5 * x * (1.0 + self.erf(x * math.sqrt(0.5)))

    def _gelu_tanh(self, x: Array) -> Array:
        """The tanh form of the same paper, which GPT-2 calls "gelu_new"."""
        return 0.5 * x * (1.0 + self.xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))

    def _relu(self, x: Array) -> Array:
        return self.xp.where(x > 0.0, x, 0.0)

    def erf(self, x: Array) -> Array:
        """The error function: the library's, or `kvsim.arrays.erf` if it has none."""
        own = getattr(self.xp, "erf", None)
        return own(x) if own is not None else erf(self.xp, x)
