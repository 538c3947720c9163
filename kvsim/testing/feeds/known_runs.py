"""Memoised results of runs, such as the logits of a decoder, by code, model, policy and texts.

A failed check runs every reading of every mistake of the bank. The next check on the same weights in the same process
needs most of these runs again.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from threading import Lock
from typing import Any

import numpy as np

MOST_BYTES = 1 << 26  # of all memoised arrays together


class KnownRuns:
    """A least-recently-used cache of arrays, of at most `most_bytes` bytes."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.nbytes = most_bytes, 0
        self._kept: OrderedDict[Hashable, list[Any]] = OrderedDict()
        self._lock = Lock()  # checks may run in threads

    def get(self, key: Hashable, run: Callable[[], list[Any]]) -> list[Any]:
        """The result of `run()`, read-only arrays or None; the earlier result if there is one for `key`."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        outputs = run()
        for output in outputs:
            if output is not None:
                output.flags.writeable = False  # another check may get the same array
        with self._lock:
            if key not in self._kept:
                self._kept[key] = outputs
                self.nbytes += _nbytes(outputs)
            while self.nbytes > self.most_bytes:
                self.nbytes -= _nbytes(self._kept.popitem(last=False)[1])
        return outputs


def _nbytes(outputs: list[Any]) -> int:
    return sum(output.nbytes for output in outputs if output is not None)


KNOWN = KnownRuns()  # shared by all checks of the process


def fingerprint(weights: Any) -> bytes:
    """A digest of every array in a record of weights, in order."""
    digest = hashlib.blake2b(digest_size=16)

    def add(part: Any) -> None:
        if is_dataclass(part):
            for field in fields(part):
                digest.update(field.name.encode())
                add(getattr(part, field.name))
        elif isinstance(part, tuple):
            digest.update(b"(%d)" % len(part))
            for one in part:
                add(one)
        elif part is not None:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data.cast("B"))

    add(weights)
    return digest.digest()
