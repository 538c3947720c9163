"""The choice of the next token: the only place of a step where a value leaves the device."""

from dataclasses import dataclass

import numpy as np

from kvsim.arrays import Array
from kvsim.checks import check_number, check_whole
from kvsim.errors import KvsimError, UsageError
from kvsim.ops import Ops


def _nan_error() -> KvsimError:
    return KvsimError("the logits hold NaN: the computation overflowed; use a wider dtype")


def keep_top_k(probs: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    """`probs` [V] with all but the first `k` of `order` at zero."""
    kept = np.zeros_like(probs)
    kept[order[:k]] = probs[order[:k]]
    return kept


def keep_top_p(probs: np.ndarray, order: np.ndarray, p: float) -> np.ndarray:
    """`probs` [V] with all but the shortest beginning of `order` that holds a share `p` of it at zero
    (arXiv:1904.09751)."""
    running = np.cumsum(probs[order])
    count = int(np.searchsorted(running, p * running[-1])) + 1
    return keep_top_k(probs, order, count)


@dataclass(frozen=True)
class Sampler:
    """Greedy at temperature 0, else a draw from softmax(logits / temperature), restricted to the `top_k` likeliest
    ids and then to the likeliest that together hold the share `top_p`. Ties go to the smaller id.

    A draw depends only on the seed and the position: not on how the prompt was fed, nor on the cache.

    UsageError: a value that is no number or out of range, or top_k or top_p at temperature 0.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", check_number("temperature", self.temperature))
        object.__setattr__(self, "seed", check_whole("seed", self.seed, 0))
        if self.top_k is not None:
            object.__setattr__(self, "top_k", check_whole("top-k", self.top_k, 1))
        if self.top_p is not None:
            object.__setattr__(self, "top_p", check_number("top-p", self.top_p))
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError("temperature must be 0 (greedy) or above, got {got}", got=self.temperature)
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise UsageError("top-p must be above 0 and at most 1, got {got}", got=self.top_p)
        if self.temperature == 0.0 and (self.top_k, self.top_p) != (None, None):
            raise UsageError("top-k and top-p need a temperature above 0: temperature 0 is greedy")

    def choose(self, ops: Ops, logits: Array, position: int) -> int:
        """The id chosen for `position` from logits [V]. KvsimError: NaN among them."""
        with ops.backend.running():
            return self._choose(ops, logits, position)

    def _choose(self, ops: Ops, logits: Array, position: int) -> int:
        if self.temperature == 0.0:
            chosen = ops.argmax(logits)
            if chosen < 0:
                raise _nan_error()
            return chosen
        host = np.asarray(ops.backend.to_host(logits), dtype=np.float64)
        if np.isnan(host).any():
            raise _nan_error()
        with np.errstate(over="ignore"):  # at a temperature near zero all but the largest become 0, as they should
            probs = np.exp((host - host.max()) / self.temperature)
        order = np.argsort(-host, kind="stable")
        if self.top_k is not None:
            probs = keep_top_k(probs, order, self.top_k)
        if self.top_p is not None:
            probs = keep_top_p(probs, order, self.top_p)
        running = np.cumsum(probs[order])
        draw = np.random.default_rng([self.seed, position]).random() * running[-1]
        return int(order[np.searchsorted(running, draw, side="right")])
