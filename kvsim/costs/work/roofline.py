"""Time on a device, by its roofline (Williams, Waterman, Patterson 2009): a bound, not a forecast.

No step takes less than its FLOPs at the device's peak, nor less than its bytes at its bandwidth. What engines need
beside that (launches, Python, kernels below the peak) is one `overhead` per step, which is 0 unless it is given.
Seconds are exact fractions.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from kvsim.counting.symbolic import Poly, evaluate, sign_changes, sum_over


class Limits(NamedTuple):
    """What a device can do, and what a step takes beside."""

    peak: int  # FLOP/s
    bandwidth: int  # B/s
    overhead: Fraction = Fraction(0)  # s per step

    @property
    def ridge(self) -> Fraction:
        """FLOPs per byte from which on a step is bound by computing."""
        return Fraction(self.peak, self.bandwidth)


class Work(NamedTuple):
    """Steps lo .. hi: FLOPs and bytes of each, numbers or polynomials of the same t."""

    lo: int
    hi: int
    flops: Any
    moved: Any


class Bound(NamedTuple):
    """The least time of some steps, overhead included."""

    seconds: Fraction
    compute_bound: int  # steps that wait for products
    memory_bound: int  # steps that wait for memory (as long as for products, too)

    @property
    def steps(self) -> int:
        return self.compute_bound + self.memory_bound

    @property
    def each(self) -> Fraction | None:
        """Seconds of one step, on average; None without steps."""
        return self.seconds / self.steps if self.steps else None


def coefficients(form: Any) -> tuple[Any, ...]:
    return form.coefficients if type(form) is Poly else (form,)


def difference(limits: Limits, work: Work) -> tuple[Any, ...]:
    """Coefficients of the time for products less that for memory, times what is positive."""
    flops, moved = coefficients(work.flops), coefficients(work.moved)
    width = max(len(flops), len(moved))
    flops, moved = (c + (0,) * (width - len(c)) for c in (flops, moved))
    found = [f * limits.bandwidth - b * limits.peak for f, b in zip(flops, moved, strict=True)]
    while len(found) > 1 and found[-1] == 0:
        found.pop()
    return tuple(found)


def bound(limits: Limits, works: Iterable[Work]) -> Bound:
    """Σ over the steps of max(FLOPs / peak, bytes / bandwidth) + overhead."""
    seconds, compute, memory = Fraction(0), 0, 0
    for work in works:
        lead = difference(limits, work)
        starts = [work.lo, *sign_changes(lead, work.lo, work.hi)]
        for lo, hi in zip(starts, [*(t - 1 for t in starts[1:]), work.hi], strict=True):
            if evaluate(lead, lo) > 0:
                seconds += Fraction(sum_over(work.flops, lo, hi), limits.peak)
                compute += hi - lo + 1
            else:
                seconds += Fraction(sum_over(work.moved, lo, hi), limits.bandwidth)
                memory += hi - lo + 1
    return Bound(seconds + limits.overhead * (compute + memory), compute, memory)


def needed_overhead(measured: Fraction, found: Bound) -> Fraction:
    """Seconds that every step needs beside its bound, so that all take the measured time. `found` is without overhead.

    ValueError: no steps.
    """
    if not found.steps:
        raise ValueError("there are no steps to spread it over")
    return (measured - found.seconds) / found.steps
