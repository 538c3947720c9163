"""The operations that models are made of, on any array library.

`Ops` is an object that the model hands down: the namespace, the open ledgers, the watchers and the
scope. `Ops.matmul` is the only matrix product of the package. Shapes below use the letters of
`kvsim.transformer`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kvsim.arrays import Array, Backend
from kvsim.arrays.erf import erf
from kvsim.counting.events import KINDS, MatMul
from kvsim.counting.ledger import Ledger
from kvsim.watching import Seen
from kvsim.weights import Linear, Norm


class Ops:
    """Operations on `backend` in `dtype` ("float32"), counted and watched."""

    def __init__(self, backend: Backend, dtype: str) -> None:
        self.backend = backend
        self.xp: Any = backend.xp
        self.device = backend.device
        self.dtype = backend.dtype(dtype)
        self.dtype_name = dtype
        # Statistics of 16-bit numbers (norms, softmax) are computed in 32, as engines do.
        self.wide_dtype = self.xp.float32 if dtype == "float16" else self.dtype
        self.item_bytes = int(self.xp.finfo(self.dtype).bits) // 8
        self.ledgers: list[Ledger] = []
        self.watchers: list[Seen] = []
        self._scope = ""
        self._sites: dict[str, str] = {}  # kind -> full name, within the present scope
        self._sites_of = {"": self._sites}

    # Where we are, and who is told

    @contextmanager
    def at(self, *names: object) -> Iterator[None]:
        """Within this scope, sites and watched names begin with `names` joined by dots."""
        before = self._scope, self._sites
        self._scope += "".join(f"{name}." for name in names)
        self._sites = self._sites_of.setdefault(self._scope, {})
        try:
            yield
        finally:
            self._scope, self._sites = before

    @contextmanager
    def count(self) -> Iterator[Ledger]:
        """A ledger of every product until the block ends. Ledgers nest: each sees all of its own."""
        ledger = Ledger()
        self.ledgers.append(ledger)
        try:
            yield ledger
        finally:
            self.ledgers = [other for other in self.ledgers if other is not ledger]

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
                useful = macs * admitted[0] // admitted[1]
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

    def ids(self, ids: list[int]) -> Array:
        """Host integers [T] as an index array on the device."""
        return self.xp.asarray(ids, dtype=self.xp.int64, device=self.device)

    def arange(self, start: int, stop: int) -> Array:
        """start, start + 1, ... stop - 1 as int64."""
        return self.xp.arange(start, stop, dtype=self.xp.int64, device=self.device)

    def norm(self, kind: str, x: Array, w: Norm, eps: float) -> Array:
        """RMSNorm (arXiv:1910.07467, `kind` "rms") or LayerNorm (arXiv:1607.06450, "layer") of x [T, D]."""
        xp = self.xp
        wide = xp.astype(x, self.wide_dtype, copy=False)
        if kind == "layer":
            wide = wide - xp.mean(wide, axis=-1, keepdims=True)
        scale = xp.sqrt(xp.mean(wide * wide, axis=-1, keepdims=True) + eps)
        y = xp.astype(wide / scale, self.dtype, copy=False) * w.gain
        return y if w.bias is None else y + w.bias

    def softmax(self, scores: Array) -> Array:
        """Softmax over the last axis; -inf becomes an exact zero."""
        xp = self.xp
        wide = xp.astype(scores, self.wide_dtype, copy=False)
        weights = xp.exp(wide - xp.max(wide, axis=-1, keepdims=True))
        return xp.astype(weights / xp.sum(weights, axis=-1, keepdims=True), self.dtype, copy=False)

    def activate(self, kind: str, x: Array) -> Array:
        """The activation `kind` of `kvsim.config.Activation`, elementwise."""
        wide = self.xp.astype(x, self.wide_dtype, copy=False)
        return self.xp.astype(getattr(self, f"_{kind}")(wide), self.dtype, copy=False)

    def _silu(self, x: Array) -> Array:
        """x · sigmoid(x) (arXiv:1702.03118), by an exponential that cannot overflow."""
        xp = self.xp
        small = xp.exp(-xp.abs(x))
        return x * xp.where(x < 0.0, small, 1.0) / (1.0 + small)

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
