"""FLOPs of the step that feeds one more token, by context, with and without a cache: the data of a plot."""

from typing import NamedTuple

from kvsim.checks import LARGEST
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost, cost


class Point(NamedTuple):
    """One context."""

    context: int  # tokens visible to the fed one, including itself
    cached: int  # FLOPs of the step with the cache
    uncached: int  # FLOPs of feeding the whole text again


def choose_contexts(last: int, points: int) -> list[int]:
    """1, powers of two, and `last`: at most `points` + 1 contexts."""
    exponents = range((last - 1).bit_length())
    stride = -(-len(exponents) // max(points - 1, 1)) or 1
    return [2**e for e in exponents[::stride]] + [last]


def measure_by_context(found: Cost, convention: Convention, points: int = 12) -> list[Point]:
    """FLOPs at contexts from 1 to the last that the run reaches (at most LARGEST)."""
    c = found.count
    last = min(c.prompt + c.new - 1, LARGEST)
    source = c.source or None
    latent = c.config.latent.form if c.config.latent else None
    whole = cost(c.config, prompt=1, new=last, cache=c.cache, dtype=c.dtype, latent=latent, source=source)
    return [
        Point(context, *(side.step_flops(context, convention) for side in (whole.cached, whole.uncached)))
        for context in choose_contexts(last, points)
    ]
