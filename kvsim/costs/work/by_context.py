"""FLOPs of the step that feeds one more token, over the context, with a cache and without: what a plot shows."""

from typing import NamedTuple

from kvsim.checks import LARGEST
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost, cost


class Point(NamedTuple):
    """One context."""

    context: int  # tokens that the fed one sees, itself among them
    cached: int  # FLOPs of the step with the cache
    uncached: int  # FLOPs of feeding the whole text again


def choose_contexts(last: int, points: int) -> list[int]:
    """1, powers of two, and `last`: at most `points` + 1 of them."""
    exponents = range((last - 1).bit_length())
    stride = -(-len(exponents) // max(points - 1, 1)) or 1
    return [2**e for e in exponents[::stride]] + [last]


def grow(found: Cost, convention: Convention, points: int = 12) -> list[Point]:
    """From the first token to the last that the run feeds, or as far as counts go."""
    c = found.count
    last = min(c.prompt + c.new - 1, LARGEST)
    source = c.source or None
    latent = c.config.latent.form if c.config.latent else None
    whole = cost(c.config, prompt=1, new=last, cache=c.cache, dtype=c.dtype, latent=latent, source=source)
    return [
        Point(at, *(side.step_flops(at, convention) for side in (whole.cached, whole.uncached)))
        for at in choose_contexts(last, points)
    ]
