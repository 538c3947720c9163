"""Which rows of each head stay: those with the largest scores; of rows with equal scores the older.

Scores are equal if they differ by no more than 1e-5 of their size. Rows of equal tokens often have equal scores, and
rounding, which depends on the dtype, on the library and on how the text is cut into steps, must not choose between
them: it changes scores in float32 by 1e-7 to 1e-6 of their size. Keys of 16 bits may be rounded by more.

Equal in this sense is not transitive. What is compared is therefore each score with one, that of the last place: the
largest `count`-th score. Rows above it stay, rows below it go, and the older of those equal to it fill the places left.
This is defined for any scores, does not depend on their order, and rounding changes it only if a score lies within
rounding of 1e-5 from that of the last place. A grid of scores would divide equal ones at each of its borders, and
chains of neighbours that are equal would in a long text become one.
"""

import math

from kvsim.arrays import Array
from kvsim.ops import Ops

TIE = 1e-5


def against_last_place(ops: Ops, scores: Array, count: int) -> tuple[Array, Array]:
    """Whether each of the scores [G, S] is above that of the last of `count` places in its head, and whether it is
    below: [G, S] each. Neither: it is equal."""
    xp, first = ops.xp, scores.shape[1] - count
    last = xp.sort(scores, axis=-1)[:, first : first + 1]
    smaller, larger = (1.0 - TIE) * last, (1.0 + TIE) * last  # in absolute value
    return scores > xp.maximum(smaller, larger), scores < -xp.maximum(-smaller, -larger)


def best_columns(ops: Ops, scores: Array, count: int, second: Array | None = None) -> Array:
    """The columns of the `count` rows of each head with the largest scores [G, S], in ascending order: [G, count]. Of
    rows with equal scores those with the largest of `second` [G, S] stay, and of rows that are equal in both the
    older."""
    xp, places = ops.xp, max(count, 1)
    above, below = against_last_place(ops, scores, places)
    if second is not None:
        among_equal = xp.where(above, math.inf, xp.where(below, -math.inf, second))
        above, below = against_last_place(ops, among_equal, places)
    order = xp.argsort(xp.astype(below, xp.int64) - xp.astype(above, xp.int64), axis=-1, stable=True)
    return xp.sort(order[:, :count], axis=-1)
