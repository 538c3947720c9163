"""What `kvsim doctor` found, as `kvsim.doctor/1`."""

from typing import Any

from kvsim.doctor.health import Check, Health
from kvsim.schemas import dump, stamp


def _check(check: Check) -> dict[str, Any]:
    return {"works": check.works, "missing": check.missing, "detail": str(check.detail)}


def to_dict(health: Health) -> dict[str, Any]:
    """Everything found (see `kvsim schema doctor`); details of errors are in English."""
    usable, in_machine = health.processors
    packages = {name: found for name, found in health.versions.items() if name != "kvsim"}
    return {
        **stamp("doctor"),
        "works": health.works,
        "versions": packages,
        "platform": health.platform,
        "backends": {name: _check(check) for name, check in health.backends.items()},
        "blas": health.blas,
        "processors": {"usable": usable, "machine": in_machine},
        "workers": health.workers,
        "attention": health.attention,
        "threads": health.threads,
        "terminal": health.terminal,
        "demo": _check(health.demo),
    }


def to_json(health: Health) -> str:
    """`to_dict` as JSON text."""
    return dump(to_dict(health))
