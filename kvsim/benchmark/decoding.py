"""Milliseconds a token at growing context, with and without a cache, beside what the machine could do.

Every step is timed alone at chosen contexts, all ways interleaved; sums over all tokens are interpolated
between the contexts and say so, unless every context was chosen.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kvsim.benchmark.limits import Clock, make_clock
from kvsim.costs.work.conventions import ATTENTION
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError
from kvsim.generation.sampling import Sampler
from kvsim.model import Model


@dataclass
class Point:
    """Steps that feed the token at one context, seconds each."""

    context: int  # tokens before it
    cached: list[float] = field(default_factory=list)
    uncached: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    cached_flops: int = 0
    uncached_flops: int = 0
    read_bytes: int = 0  # matrices and cached rows that a cached step reads


@dataclass
class Prefill:
    """The prompt fed at once."""

    tokens: int
    seconds: list[float] = field(default_factory=list)
    useful_flops: int = 0


def choose_contexts(prompt: int, new: int, points: int) -> list[int]:
    """About `points` contexts from the first to the last step that feeds one token."""
    first, last = prompt, prompt + new - 1
    if points < 2 or first == last:
        return [last]
    return sorted({first + (last - first) * i // (points - 1) for i in range(points)})


def check_sizes(model_name: str, max_context: int, prompt: int, new: int) -> None:
    """UsageError: fewer than one token, or more than the model's context."""
    for name, value in (("-n", new), ("--prompt", prompt)):
        if value < 1:
            raise UsageError("{name} must be at least 1, got {value}", name=name, value=value)
    if prompt + new > max_context:
        raise UsageError(
            "the model {model} has a context of {context} tokens, asked for {asked}: use a smaller -n or --prompt",
            model=model_name,
            context=max_context,
            asked=prompt + new,
        )


def read_by(events: Sequence[MatMul], item_bytes: int, cache_bytes: int) -> int:
    """Bytes of every matrix that a one-token step multiplies by, and of the rows its cache holds."""
    matrices = sum(event.b * event.k * event.n for event in events if event.kind not in ATTENTION)
    return matrices * item_bytes + cache_bytes


def make_ids(model: Model, count: int) -> list[int]:
    """Tokens of no meaning, the same every time."""
    return [(7919 * i + 13) % model.config.vocab_size for i in range(count)]


def time_prefill(model: Model, prompt: int, repeats: int) -> Prefill:
    """The prompt into an empty cache, the head on its last position."""
    ids, clock, found = make_ids(model, prompt), make_clock(model.ops.backend), Prefill(prompt)
    with model.count() as ledger:
        model(ids, model.new_cache("dynamic"), logits="last")
    found.useful_flops = 2 * ledger.useful_macs
    for _ in range(repeats):
        found.seconds.append(clock(lambda: model(ids, model.new_cache("dynamic"), logits="last")))
    return found


def time_steps(
    model: Model, contexts: Sequence[int], repeats: int, uncached: bool = True, peer: Any = None
) -> Iterator[Point]:
    """One `Point` for each context, as it is done. Counting is on, and the token is chosen, as `generate` does."""
    clock: Clock = make_clock(model.ops.backend)
    sampler = Sampler()
    ids = make_ids(model, contexts[-1] + 1)
    cache = model.new_cache("dynamic")
    for context in contexts:
        point = Point(context)
        if context > cache.seen:
            model(ids[cache.seen : context], cache, logits="last")
        if peer is not None:
            peer.fill(ids[:context])

        def with_cache(context: int = context) -> Ledger:
            cache.crop(min(context, cache.seen))  # the token of the repeat before
            with model.count() as ledger:
                logits = model(ids[context : context + 1], cache, logits="last")
            sampler.choose(model.ops, logits[0, :], context)
            return ledger

        def without(context: int = context) -> Ledger:
            with model.count() as ledger:
                logits = model(ids[: context + 1], logits="last")
            sampler.choose(model.ops, logits[0, :], context)
            return ledger

        ledger = with_cache()
        point.cached_flops = ledger.flops
        point.read_bytes = read_by(ledger.events, model.ops.item_bytes, cache.logical_bytes)
        if uncached:
            point.uncached_flops = without().flops
        for _ in range(repeats):
            point.cached.append(clock(with_cache))
            if uncached:
                point.uncached.append(clock(without))
            if peer is not None:
                point.peer.append(peer.step(ids[context], clock))
        yield point


def interpolate(points: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """Σ over contexts first .. last of the straight lines through `points` (context, value), level beyond them."""
    (low, start), (high, end) = points[0], points[-1]
    total = start * max(0, min(low, last + 1) - first) + end * max(0, last - max(high, first - 1))
    for (a, x), (b, y) in pairwise([*points, (high + 1, end)]):
        total += sum(x + (y - x) * (c - a) / (b - a) for c in range(max(a, first), min(b, last + 1)))
    return total


def all_timed(points: Sequence[Point], first: int, last: int) -> bool:
    """Is every step from context `first` to `last` among the points?"""
    return {point.context for point in points} >= set(range(first, last + 1))


def totals(points: Sequence[Point], way: str, first: int, last: int) -> float:
    """Seconds for every token from context `first` to `last`, by `way` ("cached", "uncached", "peer")."""
    return interpolate([(p.context, statistics.median(getattr(p, way))) for p in points], first, last)
