"""What the oracle found, as `kvsim.verify/1`, `kvsim.explain/1` and `kvsim.tolerance/1`: measured numbers as floats."""

import json
import math
from collections.abc import Iterable
from typing import Any

from kvsim import __version__
from kvsim.i18n.printable import printable
from kvsim.testing.feeds.references import FLOOR
from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.verifying import BROKEN, FINE, NOT_STARTED, WRONG

OUTCOMES = {FINE: "pass", WRONG: "fail", NOT_STARTED: "not started", BROKEN: "cannot be checked"}


def _finite(value: float | None) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None


def verify_dict(target: str, seed: int, found: Any) -> dict[str, Any]:
    """What was checked, how it ended and the failure's facts: every key always, empty or null where there is none."""
    file, _, name = target.rpartition(":")
    facts = found.facts
    return {
        "schema": "kvsim.verify/1",
        "kvsim": __version__,
        "file": file,
        "name": name,
        "kind": found.kind,
        "seed": seed,
        "outcome": OUTCOMES[found.ended],
        "text": found.text,
        "diagnosis": facts.get("diagnosis", []),
        "smallest": facts.get("smallest") or None,
        "max_abs_diff": _finite(facts.get("max_abs_diff")),
        "allowed": _finite(facts.get("allowed")),
        "policy": facts.get("policy"),
        "failing": facts.get("failing", []),
        "problem": [printable(line) for line in facts.get("problem", [])],
    }


def explain_dict(mistakes: Iterable[Any], language: str, text: str | None = None) -> dict[str, Any]:
    """Mistakes, and what the oracle prints of the one that was asked for."""
    told = [
        {
            "id": m.id, "sentence": m.sentence(language), "smallest": list(m.smallest), "window": m.window,
            "policy": m.policy, "twin": m.twin or None,
        }
        for m in mistakes
    ]  # fmt: skip
    return {"schema": "kvsim.explain/1", "kvsim": __version__, "mistakes": told, "text": text}


def tolerance_dict(found: Any, seed: int) -> dict[str, Any]:
    """The bound and its parts, not rounded."""
    sizes, allowed = found.sizes, found.allowed
    return {
        "schema": "kvsim.tolerance/1",
        "kvsim": __version__,
        "dtype": found.dtype,
        "context": found.context,
        "layers": sizes.layers,
        "heads": sizes.heads,
        "kv_heads": sizes.kv_heads,
        "d_head": sizes.d_head,
        "seed": seed,
        "max_abs_logit": _finite(found.largest),
        "emulated_error": _finite(found.emulated),
        "own_error": _finite(found.own),
        "error": _finite(allowed.own),
        "eps": FORMATS[found.dtype].eps,
        "floor_eps": FLOOR,
        "floor": _finite(allowed.floor),
        "allowed": _finite(allowed.value),
    }


def to_json(told: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(told, ensure_ascii=False, allow_nan=False)
