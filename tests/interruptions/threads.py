"""Threads that run one model, each with a ledger of its own: every ledger is exact."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from kvsim.counting.events import MatMul
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.interruptions.steps import IDS, THREE

SPECS = ("dynamic", "none", "int8:residual=2,group=2", "h2o:6", "paged:4", "sinks:2+3", "window:5", "static:40")


def count_run(model: Model, spec: str, length: int) -> list[MatMul]:
    """The events of a prefill and a step of one token."""
    held = model.new_cache(spec)
    with model.count() as ledger:
        model(IDS[:length], held)
        model(IDS[length : length + 1], held)
    return ledger.events


def run(n_threads: int, runs: int) -> int:
    """The number of runs, of `n_threads` times `runs`, whose ledger differs from that of the same run alone. Python
    switches threads every 10 microseconds."""
    model = Model(THREE, random_weights(THREE), dtype="float64")
    kinds = [(SPECS[i % len(SPECS)], 4 + i % 3) for i in range(n_threads)]
    alone = [count_run(model, *kind) for kind in kinds]
    start = Barrier(n_threads)

    def work(i: int) -> int:
        start.wait()
        return sum(count_run(model, *kinds[i]) != alone[i] for _ in range(runs))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            return sum(pool.map(work, range(n_threads)))
    finally:
        sys.setswitchinterval(before)
