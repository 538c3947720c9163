"""Times of the parts of a run: a copy of a model whose operations note when each began and ended.

The model itself is not touched, so that a run which nobody measures costs nothing. The copy has the same weights and
computes the same: its operations call those of the model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from fractions import Fraction
from time import perf_counter_ns
from typing import Any, NamedTuple

from kvsim.arrays import Array, Backend
from kvsim.costs.work.slices import NANOSECONDS, Slice, Timed, TimedStep
from kvsim.model import Model
from kvsim.ops import Ops


class Mark(NamedTuple):
    """One product, softmax or embedding, in nanoseconds of the process's clock."""

    site: str
    start: int
    stop: int


class Pass:
    """One forward pass."""

    __slots__ = ("marks", "start", "stop")

    def __init__(self, start: int) -> None:
        self.start, self.stop = start, start
        self.marks: list[Mark] = []


class Stopwatch:
    """The passes that a measured model has run, in order. On a GPU the time is read when the device has finished, since
    a call returns before."""

    def __init__(self, backend: Backend) -> None:
        self.passes: list[Pass] = []
        self._wait = _make_wait(backend)

    def now(self) -> int:
        """Nanoseconds, when everything that was asked of the device has been done."""
        if self._wait is not None:
            self._wait()
        return perf_counter_ns()

    def mark(self, site: str, start: int) -> None:
        """Note that `site` ran from `start` until now."""
        self.passes[-1].marks.append(Mark(site, start, self.now()))


def _make_wait(backend: Backend) -> Callable[[], Any] | None:
    """What waits for the device; None where a call returns when it is done."""
    if backend.name == "cupy":
        import cupy

        return lambda: cupy.cuda.get_current_stream().synchronize()
    if backend.name == "torch" and backend.device.type == "cuda":
        import torch

        return torch.cuda.synchronize
    return None


class _Timing:
    """The context manager of one pass."""

    def __init__(self, stopwatch: Stopwatch, around: AbstractContextManager[Any]) -> None:
        self._stopwatch, self._around = stopwatch, around

    def __enter__(self) -> None:
        self._around.__enter__()
        self._stopwatch.passes.append(Pass(self._stopwatch.now()))

    def __exit__(self, *error: Any) -> bool | None:
        passes = self._stopwatch.passes
        passes[-1].stop = self._stopwatch.now()
        if not passes[-1].marks:  # something else than a forward pass
            passes.pop()
        return self._around.__exit__(*error)


class _TimedOps(Ops):
    """Mixed into the class of a model's operations."""

    stopwatch: Stopwatch

    def running(self) -> Any:
        return _Timing(self.stopwatch, super().running())

    def matmul(self, kind: str, a: Array, b: Array, admitted: tuple[int, int] | None = None) -> Array:
        start = self.stopwatch.now()
        product = super().matmul(kind, a, b, admitted)
        self.stopwatch.mark(self.here.place.prefix + kind, start)
        return product

    def softmax(self, scores: Array, sinks: Array | None = None) -> Array:
        start = self.stopwatch.now()
        probs = super().softmax(scores, sinks)
        self.stopwatch.mark(f"{self.here.place.prefix}softmax", start)
        return probs

    def see(self, name: str, x: Array) -> None:
        if name == "embedding":
            self.stopwatch.mark(name, self.stopwatch.passes[-1].start)
        super().see(name, x)


def measure(model: Model) -> tuple[Model, Stopwatch]:
    """A copy of `model` that shares its weights, and the stopwatch that notes what the copy runs, in one thread."""
    stopwatch = Stopwatch(model.ops.backend)
    kind: Any = type("TimedOps", (_TimedOps, type(model.ops)), {"stopwatch": stopwatch})
    ops: Ops = kind(model.ops.backend, model.ops.dtype_name)
    ops.query_block, ops.wide_dtype = model.ops.query_block, model.ops.wide_dtype
    made = copy(model)
    made.ops = ops
    return made, stopwatch


def place(passes: Sequence[Pass], steps: Sequence[Sequence[Slice]]) -> list[TimedStep]:
    """The slices of each step with the times of its pass. The clock stands still between passes, so that a run is as
    long as its own passes, whatever ran meanwhile."""
    now, found = 0, []
    for done, slices in zip(passes, steps, strict=True):
        shift = now - done.start
        now = done.stop + shift
        found.append(TimedStep(done.start + shift, now, tuple(_join(done, slices, shift))))
    return found


def _join(done: Pass, slices: Sequence[Slice], shift: int) -> Iterator[Timed]:
    """Each slice from the beginning of its first mark to the end of its last."""
    at = 0
    for one in slices:
        marks = done.marks[at : at + len(one.sites)]
        at += len(one.sites)
        if tuple(mark.site for mark in marks) != one.sites:
            raise ValueError(f"the pass marked {[mark.site for mark in marks]}, its ledger has {one.sites}")
        start, stop = marks[0].start, marks[-1].stop
        yield Timed(one, start + shift, stop + shift, Fraction(stop - start, NANOSECONDS))
    if at != len(done.marks):
        raise ValueError(f"the pass marked {len(done.marks)} parts, its ledger has {at}")
