"""The record of `kvsim bench`, filled in while it measures; views read it alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kvsim.schemas.display import mimebundle

WAYS = ("cached", "uncached", "peer")


@dataclass
class Point:
    """The steps that feed one token at one context: seconds of every repeat, exact FLOPs and bytes."""

    context: int  # tokens fed before
    cached: list[float] = field(default_factory=list)
    uncached: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    cached_flops: int = 0
    uncached_flops: int = 0
    read_bytes: int = 0  # of the matrices and cached rows that a cached step reads

    def median(self, way: str) -> float:
        """Median seconds of `way`, one of WAYS."""
        times: list[float] = getattr(self, way)
        return statistics.median(times)


@dataclass
class Prefill:
    """The prompt fed at once: seconds of every repeat, exact FLOPs."""

    tokens: int
    seconds: list[float] = field(default_factory=list)
    useful_flops: int = 0


@dataclass
class Benchmark:
    """One run of `kvsim bench`. The steps at contexts `first` .. `last` feed one token each."""

    model: str
    parameters: int
    dtype: str
    backend: str
    attention: str  # how the model computes it: "blocked"
    machine: str  # the processor's name and the number of usable ones
    read_bytes_per_second: float
    flops_per_second: float
    peer: str | None  # the other implementation that is timed
    peak_memory: int | None  # bytes; None: unknown
    first: int
    last: int
    prefill: Prefill
    points: list[Point] = field(default_factory=list)
    partial: bool = False  # interrupted before the last point

    _repr_mimebundle_ = mimebundle

    @property
    def reached(self) -> int:
        """The last context that sums cover: `last`, or that of the last point if interrupted."""
        return self.points[-1].context if self.partial and self.points else self.last

    @property
    def ways(self) -> list[str]:
        """Those of WAYS that were timed."""
        return [way for way in WAYS if self.points and getattr(self.points[0], way)]


def interpolate(points: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """Σ over contexts first .. last of the piecewise linear function through `points` (context, value), constant
    before the first point and after the last."""
    (low, start), (high, end) = points[0], points[-1]
    total = start * max(0, min(low, last + 1) - first) + end * max(0, last - max(high, first - 1))
    for (a, x), (b, y) in pairwise([*points, (high + 1, end)]):
        total += sum(x + (y - x) * (c - a) / (b - a) for c in range(max(a, first), min(b, last + 1)))
    return total


def all_timed(points: Sequence[Point], first: int, last: int) -> bool:
    """Is every step from context `first` to `last` among the points?"""
    return {point.context for point in points} >= set(range(first, last + 1))


def totals(points: Sequence[Point], way: str, first: int, last: int) -> float:
    """Seconds of all steps from context `first` to `last` by `way`, one of WAYS, interpolated between the points."""
    return interpolate([(point.context, point.median(way)) for point in points], first, last)
