"""Products of a matrix and a vector in the independent decoder: elements are multiplied and summed, in blocks of rows
that fit a processor's cache; and memoised for decoders that repeat most of each other's."""

from collections import OrderedDict
from typing import Any

import numpy as np

BLOCK = 2**17  # numbers of a matrix that are multiplied at a time
WORTH = 2**14  # numbers of a matrix whose products are memoised
MOST_BYTES = 2**27  # of all memoised products


def multiply(w: Any, x: Any) -> Any:
    """[out]: the sum over the elements of each row of w [out, in], times x [in]. A row's sum does not depend on the
    blocks."""
    rows = max(1, BLOCK // len(x))
    if len(w) <= rows:
        return (w * x).sum(axis=-1)
    return np.concatenate([(w[first : first + rows] * x).sum(axis=-1) for first in range(0, len(w), rows)])


class Products:
    """The products of the matrices of one model, least recently used ones dropped. The matrices must outlive it: they
    are told apart by their identity."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.nbytes = most_bytes, 0
        self._kept: OrderedDict[tuple[int, bytes], Any] = OrderedDict()

    def multiply(self, w: Any, x: Any) -> Any:
        """As `multiply`: a read-only array if w is large."""
        if w.size < WORTH:
            return multiply(w, x)
        key = id(w), x.tobytes()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._kept[key] = multiply(w, x)
        made.flags.writeable = False
        self.nbytes += made.nbytes
        while self.nbytes > self.most_bytes:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes
        return made
