"""Counters of the stand-in: kernel launches, synchronisations, copies to the host and others since its start."""

import ctypes
from typing import NamedTuple


class Counts(NamedTuple):
    launches: int
    compiled: int
    gemms: int
    synchronisations: int
    to_host: int
    allocations: int

    def __sub__(self, before: "Counts") -> "Counts":
        return Counts(*(a - b for a, b in zip(self, before, strict=True)))


def read_counts() -> Counts:
    counts = (ctypes.c_long * 6)()
    ctypes.CDLL("libamdhip64.so.7").cupy_on_host_counts(counts)
    return Counts(*counts)
