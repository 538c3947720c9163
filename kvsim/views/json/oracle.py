"""The results of the oracle as records: `kvsim.verify/1`, `kvsim.explain/1`, `kvsim.tolerance/1`. Measured numbers are
floats."""

import math
from collections.abc import Iterable
from typing import Any

from kvsim.i18n.printable import printable
from kvsim.schemas import stamp
from kvsim.testing.feeds.references import FLOOR
from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.verifying import BROKEN, FINE, NOT_STARTED, WRONG

OUTCOMES = {FINE: "pass", WRONG: "fail", NOT_STARTED: "not started", BROKEN: "cannot be checked"}


def _finite(value: float | None) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None


def verify_dict(target: str, seed: int, found: Any) -> dict[str, Any]:
    """What was checked, how it ended and the facts of the failure. Every key is always there, empty or null.

    `found`: a `kvsim.testing.verifying.Found`.
    """
    file, _, name = target.rpartition(":")
    facts = found.facts
    return {
        **stamp("verify"),
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
        "edits": list(found.edits),
    }


def explain_dict(mistakes: Iterable[Any], language: str, text: str | None = None) -> dict[str, Any]:
    """Mistakes, and the text of a failing check if one mistake was asked for."""
    entries = [
        {
            "id": m.id, "sentence": m.sentence(language), "smallest": list(m.smallest), "window": m.window,
            "policy": m.policy, "twin": m.twin or None,
        }
        for m in mistakes
    ]  # fmt: skip
    return {**stamp("explain"), "mistakes": entries, "text": text}


def tolerance_dict(found: Any, seed: int) -> dict[str, Any]:
    """The bound and its parts, not rounded. `found`: a `kvsim.testing.tolerances.Tolerance`."""
    sizes, allowed = found.sizes, found.allowed
    return {
        **stamp("tolerance"),
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
