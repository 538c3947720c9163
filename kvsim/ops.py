"""The operations that models are made of, on any array library.

`Ops` is an object that the model hands down: the namespace, the open ledgers, the watchers and the
scope. `Ops.matmul` is the only matrix product of the package. Shapes below use the letters of
`kvsim.transformer`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kvsim.arrays import Array, Backend
from kvsim.arrays.erf import erf
from kvsim.config import Pairs
from kvsim.counting.events import KINDS, MatMul
from kvsim.counting.ledger import Ledger
from kvsim.counting.seen import Seen
from kvsim.weights import Linear, Norm


class Scope:
    """`with ops.at("layers", 3):`, without a generator: a step enters dozens."""

    __slots__ = ("before", "names", "ops")

    def __init__(self, ops: "Ops", names: tuple[object, ...]) -> None:
        self.ops, self.names = ops, names

    def __enter__(self) -> None:
        ops = self.ops
        self.before = ops._scope, ops._sites
        ops._scope += "".join(f"{name}." for name in self.names)
        ops._sites = ops._sites_of.setdefault(ops._scope, {})

    def __exit__(self, *_: object) -> None:
        self.ops._scope, self.ops._sites = self.before


class Counting:
    """`with ops.count() as ledger:`, without a generator: counting may cost a step one part in twenty."""

    __slots__ = ("ledger", "ops")

    def __init__(self, ops: "Ops") -> None:
        self.ops, self.ledger = ops, Ledger()

    def __enter__(self) -> Ledger:
        self.ops.ledgers.append(self.ledger)
        return self.ledger

    def __exit__(self, *_: object) -> None:
        self.ops.ledgers = [other for other in self.ops.ledgers if other is not self.ledger]


class Ops:
    """Operations on `backend` in `dtype` ("float32"), counted and watched."""

    def __init__(self, backend: Backend, dtype: str) -> None:
        self.backend = backend
        self.xp: Any = backend.xp
        self.device = backend.device
        self.dtype = backend.dtype(dtype)
        self.dtype_name = dtype
        # Statistics of 16-bit numbers (norms, softmax) are computed in 32, as engines do.
        self.wide_dtype = self.xp.float32 if dtype in ("float16", "bfloat16") else self.dtype
        self.query_block: int | None = None  # queries that attention computes at a time; None: all, full squares
        self.item_bytes = int(self.xp.finfo(self.dtype).bits) // 8
        self.ledgers: list[Ledger] = []
        self.watchers: list[Seen] = []
        self._scope = ""
        self._sites: dict[str, str] = {}  # kind -> full name, within the present scope
        self._sites_of = {"": self._sites}

    def running(self) -> AbstractContextManager[Any]:
        """Entered around all that computes: the device, and what its errors mean."""
        return self.backend.running()

    # Where we are, and who is told

    def at(self, *names: object) -> "Scope":
        """Within this scope, sites and watched names begin with `names` joined by dots."""
        return Scope(self, names)

    def count(self) -> "Counting":
        """A ledger of every product until the block ends. Ledgers nest: each sees all of its own."""
        return Counting(self)

    @contextmanager
    def watch(self, *patterns: str) -> Iterator[Seen]:
        """The arrays shown under names that match a pattern ("layers.*.probs")."""
        seen = Seen(patterns)
        self.watchers.append(seen)
        try:
            yield seen
        finally:
            self.watchers = [other for other in self.watchers if other is not seen]

    def see(self, name: str, x: Array) -> None:
        """Show `x` to whoever watches this place."""
        for seen in self.watchers:
            seen.show(self._scope + name, x)

    def _site(self, kind: str) -> str:
        """The full name of a site, made once: a step visits hundreds."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of product {kind!r}: expected one of {', '.join(KINDS)}")
        return self._sites.setdefault(kind, self._scope + kind)

    # Products

    def matmul(self, kind: str, a: Array, b: Array, admitted: tuple[int, int] | None = None) -> Array:
        """a [..., m, k] times b [..., k, n]: the one matrix product, and its event.

        `admitted`: of how many (query, key) pairs, and of how many in all, when a mask decides.
        """
        product = self.xp.matmul(a, b)
        if self.ledgers:
            *batch, m, n = product.shape
            count, k = math.prod(batch), a.shape[-1]
            macs = useful = count * m * k * n
            if admitted is not None:
                useful = macs // admitted[1] * admitted[0]  # of as many matrices as there are
            site = self._sites.get(kind) or self._site(kind)
            # What MatMul(...) does, without its call: counting may cost a step one part in fifty.
            event = tuple.__new__(MatMul, (site, count, m, k, n, useful))
            for ledger in self.ledgers:
                ledger.events.append(event)
        return product

    def linear(self, kind: str, x: Array, w: Linear) -> Array:
        """x [T, in] through a weight [out, in] and its bias: [T, out]."""
        y = self.matmul(kind, x, self.xp.matrix_transpose(w.weight))
        return y if w.bias is None else y + w.bias

    # Everything else

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
        """`count` host numbers as float64, made only where arrays hold data: some depend on the context's length."""
        if not self.backend.holds_data:
            return self.xp.empty((count,), dtype=self.xp.float64, device=self.device)
        return self.xp.asarray(make(), dtype=self.xp.float64, device=self.device)

    def plus(self, x: Array, y: Array) -> Array:
        """x + y, where nobody needs y any more."""
        return x + y

    def times(self, x: Array, factor: float) -> Array:
        """factor · x, where nobody needs x any more."""
        return x * factor

    def masked(self, scores: Array, allowed: Array, first: int) -> Array:
        """scores [..., T, S], -inf where not `allowed` [T, S], which all is in the columns before `first`. Nobody
        needs the scores any more."""
        return self.xp.where(allowed, scores, -math.inf)

    def turn(self, pairs: Pairs, x: Array, cos_TJ: Array, sin_TJ: Array) -> Array:
        """x [..., T, 2J] with each of its J pairs turned: (element j, element J + j) for "halves", (2j, 2j + 1) for
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
        """Softmax over the last axis, where nobody needs the scores any more; -inf becomes an exact zero.

        `sinks` [..., 1]: a score that takes part and whose share is dropped (gpt-oss).
        """
        return self.xp.astype(self.wide_softmax(scores, sinks), self.dtype, copy=False)

    def wide_softmax(self, scores: Array, sinks: Array | None = None) -> Array:
        """The same, in the type that statistics are computed in."""
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
        """x, held between -limit and limit. (CuPy's `clip`, by way of array-api-compat, waits for the device.)"""
        x = self.xp.where(x > limit, limit, x)
        return self.xp.where(x < -limit, -limit, x)

    def soft_cap(self, x: Array, cap: float) -> Array:
        """cap · tanh(x / cap) (Gemma 2, arXiv:2408.00118)."""
        return cap * self.xp.tanh(x / cap)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), by an exponential that cannot overflow."""
        xp = self.xp
        small = xp.exp(-xp.abs(x))
        return xp.where(x < 0.0, small, 1.0) / (1.0 + small)

    def argmax(self, logits: Array) -> int:
        """Where the largest of logits [V] stands, the first of equals; -1 where NaN would make that a lie. One number
        leaves the device."""
        xp = self.xp
        return int(xp.where(xp.any(xp.isnan(logits)), -1, xp.argmax(logits)))

    def round_bfloat16(self, x: Array) -> Array:
        """x rounded to the eight significant bits of bfloat16, ties to even, in x's own dtype.

        Adding and taking away a multiple of x leaves the leading bits (Dekker's splitting).
        """
        wide = self.xp.astype(x, self.xp.float64)
        big = wide * (2.0**45 + 1.0)
        return self.xp.astype(big - (big - wide), x.dtype)

    def gated(self, kind: str, gate: Array, up: Array) -> Array:
        """act(gate) · up (arXiv:2002.05202), where nobody needs the gate any more."""
        return self.activate(kind, gate) * up

    def activate(self, kind: str, x: Array) -> Array:
        """The activation `kind` of `kvsim.config.Activation`, elementwise, where nobody needs x any more."""
        wide = self.xp.astype(x, self.wide_dtype, copy=False)
        return self.xp.astype(getattr(self, f"_{kind}")(wide), self.dtype, copy=False)

    def _silu(self, x: Array) -> Array:
        """x · sigmoid(x) (arXiv:1702.03118)."""
        return x * self.sigmoid(x)

    def _quick_gelu(self, x: Array) -> Array:
        """x · sigmoid(1.702 x), the third form of the same paper as `gelu`."""
        return x * self.sigmoid(1.702 * x)

    def _bloom_gelu(self, x: Array) -> Array:
        """BLOOM's own constant has eight digits: visible in float64."""
        return x * 0.5 * (1.0 + self.xp.tanh(0.79788456 * x * (1.0 + 0.044715 * x * x)))

    def _tanh(self, x: Array) -> Array:
        return self.xp.tanh(x)

    def clipped_swiglu(self, gate: Array, up: Array) -> Array:
        """gpt-oss: (up + 1) · gate · sigmoid(1.702 gate), both held to at most 7."""
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
        """The error function: the library's own, or a rational form where it has none."""
        own = getattr(self.xp, "erf", None)
        return own(x) if own is not None else erf(self.xp, x)
