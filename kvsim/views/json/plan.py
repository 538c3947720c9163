"""The records of `kvsim plan --json` and `kvsim plan --sweep --json`: integers are exact, a utilization is a number."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from kvsim.costs.plans.planning import Plan
from kvsim.costs.plans.remedies import Remedy
from kvsim.costs.plans.sweep import COLUMNS, Row
from kvsim.schemas import stamp

SHARE = COLUMNS.index("utilization")


def _number(share: Fraction) -> int | float:
    """1 as an integer, a smaller share as the nearest float."""
    return int(share) if share.denominator == 1 else float(share)


def to_dict(plan: Plan, remedies: Sequence[Remedy]) -> dict[str, Any]:
    """A plan and the changes that would save bytes, as `kvsim.plan/1`."""
    setup, (heads, each) = plan.setup, plan.kv_heads
    return {
        **stamp("plan"),
        "model": plan.model,
        "max_context": setup.config.max_context,
        "device": setup.device.name,
        "devices": setup.devices,
        "dtype": setup.dtype,
        "computed": setup.compute_dtype,
        "cache_dtype": setup.kv_dtype,
        "utilization": _number(plan.utilization),
        "source": setup.source,
        "context": plan.context,
        "beyond_model": plan.context > setup.config.max_context,
        "kv_heads": {"model": heads, "device": each, "copied": each * setup.devices > heads},
        "weight_bytes": setup.weight_bytes,
        "request_bytes": plan.request_bytes,
        "fits": [fit._asdict() for fit in plan.fits],
        "remedies": [{**r._asdict(), "fits": [fit._asdict() for fit in r.fits]} for r in remedies],
    }


def sweep_to_dict(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows of a sweep, in order, as `kvsim.plan-sweep/1`."""
    shares = {row[SHARE]: _number(Fraction(row[SHARE])) for row in rows}
    return {
        **stamp("plan-sweep"),
        "columns": COLUMNS,
        "rows": [(*row[:SHARE], shares[row[SHARE]], *row[SHARE + 1 :]) for row in rows],
    }
