"""Time of each operation in one cached decode step and in one prefill: GPT-2-124M's shape, random weights.

    python examples/bench/where_time_goes.py [CONTEXT]

Times are medians of 30 and 5 runs and exclude nested operations; "the rest" is Python between the operations. Products
of attention are separate from those with weights. For comparison, the same matrices are multiplied without a model.
"""

import statistics
import sys
import time
from collections import Counter

from abstraction import GPT2
from bars import bare_products

from kvsim.caches.buffer import BufferLayer
from kvsim.generation.sampling import Sampler
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model

ATTENTION = ("scores", "context")
OPERATIONS = ("matmul", "norm", "softmax", "activate", "add", "scale", "mask", "linear", "rotate")
NAMES = {"linear": "biases", "add": "residual sums", "update": "writing the cache"}


class Stopwatch:
    """Seconds by operation, without those of operations nested in it."""

    def __init__(self):
        self.seconds, self.inside = Counter(), []

    def around(self, name, call):
        def timed(*arguments, **options):
            site = arguments[0] if name == "matmul" else None
            label = NAMES.get(name, name)
            if site is not None:
                label = "attention's products" if site in ATTENTION else "products with weights"
            self.inside.append(0.0)
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                taken = time.perf_counter() - start
                self.seconds[label] += taken - self.inside.pop()
                if self.inside:
                    self.inside[-1] += taken

        return timed


def clock(run, repeats):
    """Median milliseconds of a run."""
    run()
    whole = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        whole.append(1e3 * (time.perf_counter() - start))
    return statistics.median(whole)


def medians(found):
    """Median milliseconds by operation."""
    return {
        name: 1e3 * statistics.median(one[name] for one in found) for name in sorted({n for one in found for n in one})
    }


def measure(model, run, repeats):
    """Median milliseconds by operation over `repeats` runs, and those of a run without the stopwatch."""
    whole = clock(run, repeats)
    found, update = [], BufferLayer.update
    for _ in range(repeats):
        watch = Stopwatch()
        for name in OPERATIONS:
            setattr(model.ops, name, watch.around(name, getattr(type(model.ops), name).__get__(model.ops)))
        BufferLayer.update = watch.around("update", update)
        try:
            watch.around("the rest", run)()
        finally:
            BufferLayer.update = update
            for name in OPERATIONS:
                delattr(model.ops, name)
        found.append(watch.seconds)
    return medians(found), whole


def report(heading, parts, whole):
    print(f"\n{heading}: {whole:.2f} ms ({sum(parts.values()):.2f} with the stopwatch)")
    for name, taken in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"  {name:<36}{taken:9.3f} ms {100 * taken / sum(parts.values()):5.1f} %")


def main(context):
    model = Model(GPT2, random_weights(GPT2, dtype="float32"), attention="blocked", backend="numpy")
    ids, cache, sampler = [7 * i % 50257 for i in range(context)], model.new_cache("dynamic"), Sampler()
    model(ids, cache, logits="last")

    def step():
        with model.count() as ledger:
            logits = model([11], cache, logits="last")
        cache.crop(context)
        return ledger.flops, sampler.choose(model.ops, logits[0, :], context)

    def prefill():
        with model.count() as ledger:
            model(ids[:512], model.new_cache("dynamic"), logits="last")
        return ledger.flops

    report(f"one decode step at context {context}", *measure(model, step, 30))
    bare, times = bare_products(model), []
    for _ in range(30):
        start = time.perf_counter()
        bare()
        times.append(1e3 * (time.perf_counter() - start))
    print(f"  the same matrices, without a model: {statistics.median(times):.2f} ms")
    report(f"a prefill of {min(context, 512)}", *measure(model, prefill, 5))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
