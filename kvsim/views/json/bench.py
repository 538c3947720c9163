"""What `kvsim bench` measured, as `kvsim.bench/1`: exact integers, seconds as floats."""

from typing import Any

from kvsim.benchmark.record import Benchmark, all_timed, totals
from kvsim.schemas import dump, stamp

FACTS = (
    "model", "parameters", "dtype", "backend", "attention", "machine", "read_bytes_per_second", "flops_per_second",
    "peer", "peak_memory", "partial",
)  # fmt: skip


def to_dict(bench: Benchmark) -> dict[str, Any]:
    """Everything measured (see `kvsim schema bench`): seconds of every repeat, exact FLOPs and bytes.

    If the run was interrupted, "seconds" covers the contexts up to the last point, as the printed sums do.
    """
    return {
        **stamp("bench"),
        **{name: getattr(bench, name) for name in FACTS},
        "prefill": vars(bench.prefill),
        "points": [vars(point) for point in bench.points],
        "seconds": {way: totals(bench.points, way, bench.first, bench.reached) for way in bench.ways},
        "seconds_are": "sums of every step"
        if all_timed(bench.points, bench.first, bench.reached)
        else "interpolated between the contexts of the points",
    }


def to_json(bench: Benchmark) -> str:
    """`to_dict` as JSON text."""
    return dump(to_dict(bench))
