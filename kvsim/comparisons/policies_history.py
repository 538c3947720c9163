"""The steps of one cache's run: counts, bytes, and when each row left.

A row that has left a cache never returns, so one number a row, the step that evicted it, says which rows were held
after every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from kvsim.caches.base import LayerCache, layer_shape
from kvsim.caches.cache import Cache
from kvsim.comparisons.counts import Counts
from kvsim.model import Model

MAX_ROWS = 1_000_000  # whose evictions are recorded, over all caches, layers and heads
LeftOut = Literal["rows", "untold"]  # too many rows; a policy that does not tell which rows it holds


class PolicyStep(NamedTuple):
    """One step of one cache."""

    counts: Counts
    logical_bytes: int  # after the step
    allocated_bytes: int
    metadata_bytes: int


@dataclass(frozen=True)
class History:
    """Every step of a run, and the fate of every row."""

    steps: tuple[PolicyStep, ...]
    # [layers][heads of the cache][tokens]: the step, from 1, after which the row is no longer held; 0: held to the end.
    # A row that is not even held after the step that fed it has that step.
    evicted: tuple[tuple[tuple[int, ...], ...], ...] | None
    left_out: LeftOut | None = None  # why `evicted` is None

    def __repr__(self) -> str:
        return f"<History of {len(self.steps):,} steps>"


class Recorder:
    """Makes the `History` of one cache."""

    def __init__(self, model: Model, cache: Cache, n_tokens: int, left_out: LeftOut | None) -> None:
        self._model, self._cache, self._n = model, cache, n_tokens
        self._left_out = left_out
        self._steps: list[PolicyStep] = []
        heads = layer_shape(model.config).n_heads
        size = 0 if left_out else n_tokens
        self._evicted = np.zeros((len(cache.layers), heads, size), dtype=np.int64)

    def add(self, stop: int, counts: Counts) -> None:
        """Record the step after which `stop` tokens are read."""
        cache = self._cache
        self._steps.append(PolicyStep(counts, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes))
        if self._left_out:
            return
        for evicted, layer in zip(self._evicted, cache.layers, strict=True):
            held = self._find_held(layer, stop, evicted.shape[0])
            if held is None or bool((held & (evicted[:, :stop] > 0)).any()):  # a row that returned
                self._left_out = "untold"
                return
            here = evicted[:, :stop]
            here[~held & (here == 0)] = len(self._steps)

    def _find_held(self, layer: LayerCache, stop: int, heads: int) -> Any:
        """Which of the first `stop` rows each head of a layer holds: booleans [G, stop]; None if it does not tell."""
        held, found = layer.held, np.zeros((heads, stop), dtype=bool)
        if held is None:
            return None
        if isinstance(held, tuple):
            for span in held:
                found[:, span.start : span.stop] = True
            return found
        positions = layer.home.backend.to_host(held)
        np.put_along_axis(found, positions, True, axis=1)
        return found

    def finish(self) -> History:
        """The history of all steps."""
        evicted = None
        if not self._left_out:
            evicted = tuple(tuple(tuple(row) for row in layer) for layer in self._evicted.tolist())
        return History(tuple(self._steps), evicted, self._left_out)


def plan_recorders(model: Model, caches: Sequence[Cache], n_tokens: int) -> list[Recorder]:
    """A recorder of each cache, which all leave out the rows if there are more than MAX_ROWS."""
    rows = n_tokens * model.config.n_layers * layer_shape(model.config).n_heads * len(caches)
    return [Recorder(model, cache, n_tokens, "rows" if rows > MAX_ROWS else None) for cache in caches]
