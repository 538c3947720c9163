"""The products of a step as the slices of a timeline: by layer, in the order in which they ran."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from kvsim.config import Config
from kvsim.costs.work.conventions import is_attention
from kvsim.costs.work.roofline import Limits, Work, bound
from kvsim.counting.events import SCORES, MatMul

NANOSECONDS = 10**9  # in a second
FEED_FORWARD = "feed-forward"
_IN_FEED_FORWARD = ("router", "gate", "up", "down")
_MOST_SHAPES = 6  # that a slice lists: a mixture of experts runs hundreds of products


@dataclass(frozen=True)
class Slice:
    """One product, or the embedding, a softmax, or a layer's whole feed-forward part."""

    name: str  # "query", "scores", "softmax", FEED_FORWARD, "head", ...
    layer: int | None  # None: outside all layers
    shape: str  # "4×[1,16]·[16,7]"; of several products joined by commas
    macs: int
    moved: int  # bytes of both factors and of the product, each once
    sites: tuple[str, ...]  # of what ran, in order: products, "embedding", "layers.0.softmax"

    @property
    def flops(self) -> int:
        """Two for each multiply-accumulate: kvsim counts those of products alone."""
        return 2 * self.macs


class Timed(NamedTuple):
    """A slice and when it ran: whole nanoseconds since its run began."""

    slice: Slice
    start: int
    stop: int
    seconds: Fraction  # how long exactly
    bound: str | None = None  # on a modelled device: "compute" or "memory"


class TimedStep(NamedTuple):
    """One step of one run."""

    start: int  # nanoseconds
    stop: int
    slices: tuple[Timed, ...]


def count_key_heads(config: Config) -> int:
    """The heads of the keys and values that attention multiplies by; the queries of a group share one."""
    if config.latent is None:
        return config.n_kv_heads
    return 1 if config.latent.form == "absorbed" else config.n_heads


def make_slices(events: Sequence[MatMul], item_bytes: int, key_heads: int) -> tuple[Slice, ...]:
    """The slices of one step's products: the embedding first, a softmax after each QKᵀ, and the products of a layer's
    feed-forward part together. Bytes are those of arrays of `item_bytes` a number, with `key_heads` heads of keys."""
    return tuple(_make(events, item_bytes, key_heads))


def _make(events: Sequence[MatMul], item: int, key_heads: int) -> Iterator[Slice]:
    if events:  # the first product's left factor has a row of the token table for each token, or its norm
        rows = f"[{events[0].m},{events[0].k}]"
        yield Slice("embedding", None, rows, 0, 2 * events[0].m * events[0].k * item, ("embedding",))
    waiting: list[MatMul] = []  # products of one feed-forward part
    for event in events:
        is_part = event.kind in _IN_FEED_FORWARD
        if waiting and not (is_part and _layer(event) == _layer(waiting[0])):
            yield _join(FEED_FORWARD, waiting, item, key_heads)
            waiting = []
        if is_part:
            waiting.append(event)
            continue
        yield _join(event.kind, [event], item, key_heads)
        if event.kind == SCORES:
            shape, site = f"{event.b}×[{event.m},{event.n}]", f"{event.layer}.softmax"
            yield Slice("softmax", _layer(event), shape, 0, 2 * event.b * event.m * event.n * item, (site,))
    if waiting:
        yield _join(FEED_FORWARD, waiting, item, key_heads)


def _layer(event: MatMul) -> int | None:
    first, _, rest = event.site.partition(".")
    return int(rest.partition(".")[0]) if first == "layers" else None


def _join(name: str, events: Sequence[MatMul], item: int, key_heads: int) -> Slice:
    """Products of one layer as one slice."""
    shapes = [_show(event) for event in events[:_MOST_SHAPES]]
    if len(events) > _MOST_SHAPES:
        shapes.append(f"… {len(events)} products")
    moved = sum(_count_numbers(event, key_heads) for event in events) * item
    sites = tuple(event.site for event in events)
    return Slice(name, _layer(events[0]), ", ".join(shapes), sum(event.macs for event in events), moved, sites)


def _show(event: MatMul) -> str:
    shape = f"[{event.m},{event.k}]·[{event.k},{event.n}]"
    return shape if event.b == 1 else f"{event.b}×{shape}"


def _count_numbers(event: MatMul, key_heads: int) -> int:
    """The numbers in both factors and in the product."""
    right = key_heads if is_attention(event.site) else event.b
    return event.b * event.m * (event.k + event.n) + right * event.k * event.n


def run_on_device(steps: Sequence[Sequence[Slice]], limits: Limits) -> list[TimedStep]:
    """The steps' slices one after another, each as long as its roofline: max(FLOPs / peak, bytes / bandwidth), rounded
    up to a whole nanosecond."""

    @cache
    def measure(flops: int, moved: int) -> tuple[Fraction, str]:
        found = bound(limits, [Work(1, 1, flops, moved)])
        return found.seconds, "compute" if found.compute_bound else "memory"

    now, found = 0, []
    for step in steps:
        start, timed = now, []
        for one in step:
            seconds, kind = measure(one.flops, one.moved)
            stop = now + math.ceil(seconds * NANOSECONDS)
            timed.append(Timed(one, now, stop, seconds, kind))
            now = stop
        found.append(TimedStep(start, now, tuple(timed)))
    return found
