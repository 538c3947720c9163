"""The backends that tests compare, and a table of the comparison.

`python -m tests.arrays.runs numpy exact torch` prints a row for each model and a column for each backend and dtype:
the largest difference from NumPy's float64 logits relative to max|logit|, and whether the greedy ids and the ledger
equal those of NumPy in that dtype.
"""

import re
import sys
from collections import Counter
from typing import Any

import array_api_strict
import numpy as np

from kvsim.arrays import Backend, get_backend
from kvsim.arrays.contract import narrow
from kvsim.counting.events import MatMul
from kvsim.doctor.against_numpy import ALLOWED, compare, feed, make, reference
from kvsim.loading.small_models import read_small_models

ZOO = read_small_models()
FIRST_OF_FAMILY = sorted({config.family: name for name, config in reversed(ZOO.items())}.values())


def open_strict() -> Backend:
    """array-api-strict on its second device: calls outside the standard and arrays of another device fail."""
    xp, device = array_api_strict, array_api_strict.Device("device1")

    def to_host(x: Any) -> Any:
        return np.asarray(xp.asarray(x, device=xp.Device("CPU_DEVICE"))._array)

    return Backend("strict", narrow(xp), device, ("float32", "float64"), to_host)


def backend_of(name: str) -> Backend:
    return open_strict() if name == "strict" else get_backend(name)


def macs_by_site(events: list[MatMul]) -> Counter:
    """Multiply-accumulates of every site, with a layer's experts summed: which experts run depends on the data."""
    found: Counter = Counter()
    for event in events:
        found[re.sub(r"experts\.\d+", "experts", event.site)] += event.macs
    return found


def table(backends: list[str]) -> None:
    print(f"{'model':<24}" + "".join(f"{f'{b} {d}':>26}" for b in backends for d in ALLOWED))
    for name, config in ZOO.items():
        cells = ""
        for backend in backends:
            for dtype in ALLOWED:
                if backend == "meta":
                    found, expected = feed(make(config, "meta", dtype))[2], reference(config, dtype).events
                    same = macs_by_site(found) == macs_by_site(expected)
                    cells += f"{'ledger' if same else 'LEDGER DIFFERS':>26}"
                    continue
                result = compare(name, config, backend_of(backend), dtype)
                ids = "ids" if result.same_ids else "IDS DIFFER"
                ledger = "ledger" if result.same_ledger else "LEDGER DIFFERS"
                cells += f"{f'{result.difference:.0e} {ids} {ledger}':>26}"
        print(f"{name:<24}{cells}", flush=True)


if __name__ == "__main__":
    table(sys.argv[1:] or ["numpy", "strict", "exact", "meta"])
