"""Do two runs over the same tokens agree? Their logits compared, and the difference that rounding allows."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kvsim.arrays import Array
from kvsim.comparisons.agreement_record import Agreement
from kvsim.counting.events import MatMul
from kvsim.errors import KvsimError
from kvsim.generation.lockstep import Lockstep
from kvsim.model import Model
from kvsim.ops import Ops

# Parallel products: of each group only one lies on the longest path from ids to logits, the one named on the right.
_PARALLEL = {"key": "query", "value": "query", "gate": "up"}


class Difference(NamedTuple):
    """How far logits are from those of a reference."""

    largest: float  # largest |difference|
    scale: float  # largest |logit| of the reference
    identical: bool  # equal bit for bit?


def allowed_difference(ops: Ops, events: Iterable[MatMul], largest: float) -> float:
    """The difference of logits that rounding explains between two right runs: 16 · eps · max|logit| · √Σk.

    `events`: the products of one of the two runs; `largest`: max|logit|.

    A sum of k products rounds to within about √k · eps/2 of its size (Higham and Mary, SIAM J. Sci. Comput. 41(5),
    2019). The errors of products that follow one another are independent, so their squares add: k is summed over the
    inner sizes on the path from ids to logits, one of each group of parallel products. Two runs make eps; the factor
    16 is room for what norms and softmax amplify. Of 12,000 tiny models with random weights half stay below 1/35 of
    this, 99 % below 1/4, and six, whose norms divide by almost nothing, go beyond it.
    """
    longest: dict[tuple[str, str], int] = {}
    for event in events:
        place = (event.layer, _PARALLEL.get(event.kind, event.kind))
        longest[place] = max(longest.get(place, 0), event.k)
    eps = float(ops.xp.finfo(ops.dtype).eps)
    return 16.0 * eps * largest * math.sqrt(sum(longest.values()))


def compare_logits(ops: Ops, full: Array, part: Array) -> Difference:
    """The difference of `part` [t, V] from the last t rows of the reference `full` [T, V]."""
    xp = ops.xp
    same = full[full.shape[0] - part.shape[0] :, :]
    with ops.running():
        largest, scale = float(xp.max(xp.abs(part - same))), float(xp.max(xp.abs(same)))
        identical = largest == 0.0 and _to_bytes(ops, part) == _to_bytes(ops, same)
    return Difference(largest, scale, identical)


def _to_bytes(ops: Ops, x: Array) -> bytes:
    """The bytes of x: 0.0 and -0.0 are equal, but differ here."""
    return bytes(ops.backend.to_host(x).tobytes())


def judge(ops: Ops, difference: Difference, events: Iterable[MatMul]) -> Agreement:
    """The difference beside what rounding allows for a run with the products `events`."""
    allowed = 0.0 if ops.backend.fixed_order else allowed_difference(ops, events, difference.scale)
    return Agreement(difference.largest, allowed, difference.identical)


def check_agreement(model: Model, full: Array, part: Array, events: Iterable[MatMul]) -> Agreement:
    """The agreement of `part` [t, V] with the last t rows of `full` [T, V], whose run left `events`.

    KvsimError: a logit that is not finite.
    """
    difference = compare_logits(model.ops, full, part)
    if not math.isfinite(difference.largest):
        raise not_finite(model)
    return judge(model.ops, difference, events)


def not_finite(model: Model) -> KvsimError:
    """The error for logits with NaN or infinity."""
    return KvsimError("the logits are not finite in {dtype}: use a wider dtype", dtype=model.dtype)


def combine(agreements: Sequence[Agreement]) -> Agreement:
    """The agreement with the largest difference, among those that do not agree if any; the last one of a tie."""
    wrong = [agreement for agreement in agreements if not agreement.agrees]
    return max(reversed(wrong or agreements), key=lambda agreement: agreement.difference)


def quietly(steps: Iterator[Lockstep]) -> Iterator[Lockstep]:
    """The same steps without NumPy's warnings: an overflow is found in the logits and reported once."""
    while True:
        with np.errstate(all="ignore"):
            step = next(steps, None)
        if step is None:
            return
        yield step
