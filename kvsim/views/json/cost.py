"""The record of `kvsim cost --json` (`kvsim schema cost`): exact integers, times and ratios as floats."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from kvsim.config import LayerKind
from kvsim.costs.public.devices import Device
from kvsim.costs.work.by_context import Point
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost, Phase, Side
from kvsim.costs.work.roofline import Bound, Limits
from kvsim.schemas import stamp


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _layer_kind(found: Cost, kind: LayerKind, flops: int) -> dict[str, Any]:
    e = kind.experts
    return {
        "layers": list(found.count.forms.kinds.layers_of(kind)),
        "window": kind.window,
        "experts": None if e is None else e.count,
        "chosen": None if e is None else e.chosen,
        "flops": flops,
    }


def _phase(found: Cost, phase: Phase, conventions: Sequence[Convention]) -> dict[str, Any]:
    return {
        "steps": phase.steps,
        "tokens": phase.fed,
        "bytes": {**phase.moved._asdict(), "total": phase.moved.total},
        **{
            convention: {
                "macs": phase.macs(convention),
                "flops": phase.flops(convention),
                "flops_without_head": phase.flops_without_head(convention),
                "flops_of_all_experts": phase.flops_of_all_experts(convention),
                "flops_per_byte": _float(phase.intensity(convention)),
                "by_site": phase.flops_by("place", convention),
                "by_kind": phase.flops_by("kind", convention),
                "by_layer_kind": [
                    _layer_kind(found, kind, flops) for kind, flops in phase.flops_by_layer_kind(convention).items()
                ],
            }
            for convention in conventions
        },
    }


def _side(found: Cost, side: Side, conventions: Sequence[Convention]) -> dict[str, Any]:
    return {
        "cache": side.count.cache,
        "kv_bytes": side.count.kv_bytes,
        **{name: _phase(found, getattr(side, name), conventions) for name in ("prefill", "decode", "total")},
    }


def _bound(found: Bound) -> dict[str, Any]:
    return {
        "seconds": float(found.seconds),
        "seconds_per_step": _float(found.each),
        "compute_bound_steps": found.compute_bound,
        "memory_bound_steps": found.memory_bound,
    }


def _roofline(found: Cost, device: Device, limits: Limits, conventions: Sequence[Convention]) -> dict[str, Any]:
    def bounds(side: Side, convention: Convention) -> dict[str, Any]:
        return dict(zip(("prefill", "decode"), map(_bound, side.bounds(limits, convention)), strict=True))

    return {
        "device": device.name,
        "peak_flops_per_second": limits.peak,
        "bandwidth_bytes_per_second": limits.bandwidth,
        "ridge_flops_per_byte": float(limits.ridge),
        "overhead_seconds_per_step": float(limits.overhead),
        **{
            name: {convention: bounds(side, convention) for convention in conventions}
            for name, side in (("with_cache", found.cached), ("without_cache", found.uncached))
        },
    }


def to_dict(
    found: Cost, conventions: Sequence[Convention], device: Device | None, limits: Limits | None,
    points: Sequence[Point] | None,
) -> dict[str, Any]:  # fmt: skip
    """The costs under `conventions`, as `kvsim.cost/1`; `points` are FLOPs by context under the last of them."""
    count, p = found.count, found.parameters
    last = count.prompt + count.new - 1
    return {
        **stamp("cost"),
        "model": count.model,
        "prompt": count.prompt,
        "new": count.new,
        "source": count.source,
        "dtype": count.dtype,
        "latent": None if found.config.latent is None else found.config.latent.form,
        "max_context": found.config.max_context,
        "beyond_context": last > found.config.max_context,
        "parameters": {
            "total": p.total,
            "active": p.active,
            "embeddings": p.tables,
            "total_without_embeddings": p.total - p.tables,
            "active_without_embeddings": p.active - p.tables,
        },
        "conventions": list(conventions),
        "with_cache": _side(found, found.cached, conventions),
        "without_cache": _side(found, found.uncached, conventions),
        "ratio": {convention: float(found.ratio(convention)) for convention in conventions},
        "weights_at_most": found.cached.reads.routed,
        "crossover": {
            "decode": found.crossover.decode,
            "prefill": {convention: found.crossover.prefill[convention] for convention in conventions},
        },
        "roofline": None if device is None or limits is None else _roofline(found, device, limits, conventions),
        "growth": None
        if points is None
        else {"convention": conventions[-1], "points": [point._asdict() for point in points]},
    }
