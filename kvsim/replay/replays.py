"""Which steps of a model have a program, and when one is recorded."""

from collections import Counter, OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.config import Config
from kvsim.fast_ops import FastOps
from kvsim.spans import Span
from kvsim.transformer.rotary import depends_on_length
from kvsim.weights import Weights

if TYPE_CHECKING:
    from kvsim.replay.program import Program

RECORD_AFTER = 16  # steps of one token: a recording takes as long as some tens of them in a small model
KEPT = 16  # kinds of caches whose programs are kept


def repeats(ops: FastOps, config: Config) -> bool:
    """Is a step of one token the same in each step but for sizes and positions? Not where data choose (a mixture's
    experts), where a source is read, where frequencies depend on the length, or in 16 bits, whose norms are wider."""
    by_length = any(kind.rope is not None and depends_on_length(kind.rope) for kind in config.layers)
    chosen = any(kind.experts is not None for kind in config.layers)
    return not (by_length or chosen or config.encoder is not None or ops.wide_dtype != ops.dtype)


class Replays:
    """The programs of one model."""

    def __init__(self, ops: FastOps, config: Config) -> None:
        self.ops, self.config = ops, config
        self.weights: Weights | None = None  # those that the programs hold
        self.waited: Counter[Any] = Counter()
        self.lock = Lock()  # a program's arrays are for one step at a time
        self.programs: OrderedDict[Any, list[Program]] = OrderedDict()

    def find(self, weights: Weights, cache: Cache, pos: Span) -> "Program | None":
        """What a step of one token at `pos` through `cache` does; None until it has come often enough."""
        if weights is not self.weights:
            self.weights = weights
            self.waited.clear()
            self.programs.clear()
        t, kind = pos.start, (cache.spec, type(cache.layers[0]))
        for program in self.programs.get(kind, ()):
            if program.lo <= t <= program.hi:
                return program
        self.waited[kind] += 1
        if self.waited[kind] <= RECORD_AFTER or any(layer.preview(pos) is None for layer in cache.layers):
            return None
        from kvsim.replay.recorder import record  # with the symbols it needs: not every run comes so far

        made = record(self.ops, self.config, weights, cache.layers, t)
        self.programs.setdefault(kind, []).insert(0, made)
        while len(self.programs) > KEPT:
            dropped, _ = self.programs.popitem(last=False)
            del self.waited[dropped]
        return made

    def hurry(self, cache: Cache) -> None:
        """The next step of one token through a cache of this kind is recorded, however few there were."""
        self.waited[cache.spec, type(cache.layers[0])] = RECORD_AFTER

    def run(self, weights: Weights, cache: Cache, pos: Span, token: int) -> Array | None:
        """Logits [1, V] of a step that has a program, and its events; None for one that has none, or whose program
        another thread is running."""
        if self.ops.watchers or not cache.keeps or not self.lock.acquire(blocking=False):
            return None
        try:
            program = self.find(weights, cache, pos)
            if program is None:
                return None
            logits = program.run(token, pos, cache.layers)
        finally:
            self.lock.release()
        for ledger in self.ops.ledgers:
            ledger.repeat(program.events, pos.start)
        return logits
