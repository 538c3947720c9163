"""Which steps of a model have a program, and when one is recorded."""

from collections import Counter
from threading import local
from typing import TYPE_CHECKING, Any

from kvsim.arrays import Array
from kvsim.caches.base import LayerCache
from kvsim.caches.cache import Cache
from kvsim.config import Config
from kvsim.fast_ops import FastOps
from kvsim.spans import Span
from kvsim.transformer.rotary import depends_on_length
from kvsim.weights import Weights

if TYPE_CHECKING:
    from kvsim.replay.program import Program

RECORD_AFTER = 16  # steps of one token: in a small model a recording takes as long as some tens of them
KEPT = 16  # programs; the one that was not looked up for longest goes


def repeats(ops: FastOps, config: Config) -> bool:
    """Is a step of one token the same in each step but for sizes and positions? Not where data choose (a mixture's
    experts), where a source is read, where frequencies depend on the length, or in 16 bits, whose norms are wider."""
    by_length = any(kind.rope is not None and depends_on_length(kind.rope) for kind in config.layers)
    chosen = any(kind.experts is not None for kind in config.layers)
    return not (by_length or chosen or config.encoder is not None or ops.wide_dtype != ops.dtype)


def tells(layer: LayerCache, pos: Span) -> bool:
    """Does the layer say before a step what it will show? `preview` speaks for the `update` beside it: where a subclass
    has another `update`, only for its own."""
    owner = next(kind for kind in type(layer).__mro__ if "update" in vars(kind))
    return "preview" in vars(owner) and not layer.encodes_on_read and layer.preview(pos) is not None


class Replays(local):
    """The programs of one model. Every thread has its own: a program's arrays are for one step at a time."""

    def __init__(self, ops: FastOps, config: Config, weights: Weights) -> None:
        self.ops = ops
        self.start(config, weights)

    def start(self, config: Config, weights: Weights) -> None:
        """Nothing is recorded yet of a model of this config and these weights."""
        self.config, self.weights = config, weights
        self.programs: list[Program] = []  # the one that was looked up last comes first
        self.waited: Counter[tuple[type, ...]] = Counter()
        self.refused: dict[tuple[type, ...], Exception] = {}  # what could not be recorded, and why

    def __reduce__(self) -> Any:
        """A copy of the model records its own."""
        return Replays, (self.ops, self.config, self.weights)

    def hurry(self, cache: Cache) -> None:
        """The next step of one token through a cache of this kind is recorded, however few there were."""
        self.waited[tuple(map(type, cache.layers))] = RECORD_AFTER

    def find(self, cache: Cache, layers: tuple[LayerCache, ...], pos: Span) -> "Program | None":
        """What a step of one token at `pos` through `cache` does; None until it has come often enough."""
        program: Program | None
        owner, program, fitted = cache.fitted
        if program and owner is self.programs and fitted == layers and program.lo <= pos.start <= program.hi:
            return program
        if not all(tells(layer, pos) for layer in layers):
            return None
        program = next((known for known in self.programs if known.fits(layers, pos)), None)
        if program is None:
            program = self.record(layers, pos)
        else:
            self.programs.remove(program)
        if program is not None:
            self.programs.insert(0, program)
            del self.programs[KEPT:]
            cache.fitted = self.programs, program, layers
        return program

    def record(self, layers: tuple[LayerCache, ...], pos: Span) -> "Program | None":
        """The program of a step that has come often enough. What cannot be recorded (numbers of a foreign type in a
        config) goes on as it is: `refused` has the reason."""
        kinds = tuple(map(type, layers))
        self.waited[kinds] += 1
        if self.waited[kinds] <= RECORD_AFTER or kinds in self.refused:
            return None
        from kvsim.replay.recorder import record  # with the symbols it needs: not every run comes so far

        try:
            return record(self.ops, self.config, self.weights, layers, pos.start)
        except Exception as error:
            self.refused[kinds] = error
            return None

    def run(self, config: Config, weights: Weights, cache: Cache, pos: Span, token: int) -> Array | None:
        """Logits [1, V] of a step that has a program, and its events; None for one that has none."""
        ops = self.ops
        if ops.here.watchers or ops.scoped() or not cache.keeps:
            return None
        if config is not self.config or weights is not self.weights:
            self.start(config, weights)
        layers = tuple(cache.layers)
        program = self.find(cache, layers, pos)
        if program is None or program.runs:
            return None
        logits = program.run(token, pos, layers)
        log = ops.here.tally[0]
        if log is None:
            ops.here.uncounted += program.events.calls
        else:
            log.append((program.events, pos.start))
        return logits
