"""What would make a model fit, or more of it: each change by itself, sorted by the bytes that it saves.

Bytes saved are those of the weights and one request, on the fullest device. Fewer KV heads and a window are another
model: it must be trained so. Quantised weights and caches lose precision. Nothing is said of quality here.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from kvsim.config import Config
from kvsim.costs.plans.planning import MOST_DEVICES, Fit, Plan, Setup, change, find_fits
from kvsim.errors import UsageError

KINDS = ("kv_heads", "weights", "cache", "window", "context", "devices")


class Remedy(NamedTuple):
    """One change."""

    kind: str  # of KINDS
    value: int | str  # what it becomes: KV heads, a dtype, tokens, devices
    weight_bytes: int
    request_bytes: int
    saved: int  # bytes of weights and one request; above 0
    fits: tuple[Fit, ...]  # with it; at another context under the kind "context"


def fewer_heads(config: Config) -> list[int]:
    """KV heads that a model could have instead: half, 8, and 1."""
    if config.latent is not None:
        return []
    heads = config.n_kv_heads
    return sorted({n for n in (heads // 2, 8, 1) if 0 < n < heads and heads % n == 0}, reverse=True)


def with_window(config: Config, window: int) -> Config:
    """The same with a window in the layers that keep all."""
    layers = tuple(replace(kind, window=window) if kind.window is None else kind for kind in config.layers)
    return replace(config, layers=layers)


def largest_power(below: int) -> int:
    """The largest power of two below a number above 1."""
    return int(1 << (below - 1).bit_length() - 1)


def list_changes(plan: Plan) -> Iterator[tuple[str, int | str, dict[str, Any], int]]:
    """Kind, value, the fields of the setup that change, the context."""
    setup, context = plan.setup, plan.context
    for heads in fewer_heads(setup.config):
        yield "kv_heads", heads, {"config": replace(setup.config, n_kv_heads=heads)}, context
    for dtype in ("float16", "bfloat16", "int8", "int4"):
        # The cache stays in what it is in.
        yield "weights", dtype, {"dtype": dtype, "cache_dtype": setup.kept}, context
    for dtype in ("int8", "int4"):
        yield "cache", dtype, {"cache_dtype": dtype}, context
    if context > 1:
        window = largest_power(context)
        yield "window", window, {"config": with_window(setup.config, window)}, context
        shorter = shorter_context(plan)
        yield "context", shorter, {}, shorter
    if 2 * setup.devices <= MOST_DEVICES:
        yield "devices", 2 * setup.devices, {"devices": 2 * setup.devices}, context


def shorter_context(plan: Plan) -> int:
    """The longest that fits once as the vendor reads the figure, where this one does not; else half of it."""
    fit = plan.fits[0]
    return fit.tokens if fit.requests == 0 and fit.tokens else plan.context // 2


def _try(setup: Setup, fields: dict[str, Any]) -> Setup | None:
    """`setup` changed; None: that cannot be."""
    try:
        return change(setup, **fields)
    except UsageError:
        return None


def find_remedies(plan: Plan) -> tuple[Remedy, ...]:
    """All changes that save something, the most first."""
    now = plan.setup.weight_bytes + plan.request_bytes
    found = []
    for kind, value, fields, context in list_changes(plan):
        setup = _try(plan.setup, fields)
        if setup is None:
            continue
        weights, request = setup.weight_bytes, setup.growth.peak(context)
        if weights + request < now:
            fits = find_fits(setup, plan.utilization, context)
            found.append(Remedy(kind, value, weights, request, now - weights - request, fits))
    return tuple(sorted(found, key=lambda remedy: (-remedy.saved, KINDS.index(remedy.kind), str(remedy.value))))
