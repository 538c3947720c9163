"""A failed check as plain data, for JSON: `facts` of an OracleError."""

import math
from typing import Any

from kvsim.i18n.language import Say
from kvsim.testing.verdict.failure import DecoderFailure, Failure, Mismatch
from kvsim.testing.verdict.text import sentence

UNKNOWN = "unknown"


def to_facts(failure: Failure, say: Say) -> dict[str, Any]:
    """The failure's ids, numbers and sizes. `diagnosis`: the ids of the mistakes that explain it, ["unknown"] if none
    does, [] if none was tried. Sentences are in the language of `say`."""
    if isinstance(failure, Mismatch):
        return _mismatch(failure, say)
    ids = None if failure.named is None else [m.id for m in failure.named]
    facts: dict[str, Any] = {"diagnosis": [] if ids is None else ids or [UNKNOWN], **failure.numbers}
    if not failure.compared:
        facts |= {"problem": [sentence(p, say) for p in failure.headlines], "unwritten": failure.unwritten}
    if failure.unknown:
        facts["unknown"] = [sentence(p, say) for p in failure.notes]
    return facts


def _mismatch(f: Mismatch, say: Say) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "diagnosis": list(f.diagnosis.ids) if f.diagnosis and f.diagnosis.ids else [UNKNOWN],
        "smallest": list(f.smallest.sizes or ()),
        "max_abs_diff": f.difference.largest if math.isfinite(f.difference.largest) else None,
        "allowed": f.allowed.value,
        "failing": [list(sizes) for sizes in f.failing],
        "problem": [sentence(p, say) for p in f.problems],
    }
    return facts | ({"policy": f.policy} if isinstance(f, DecoderFailure) else {})
