"""Steps under every cache policy, interrupted: the step repeats to the same bits, or the cache refuses it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from kvsim.caches.cache import Cache
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.loading.small_models import read_small_models
from kvsim.model import Model
from tests.caches.test_every_policy import SPECS
from tests.interruptions.injector import Injector, count_lines
from tests.models import PRIMES

# Two layers that every policy holds itself, and one with a window, which most leave to a WindowLayer.
KINDS = (*PRIMES.layers, replace(PRIMES.layers[0], window=5))
THREE = replace(PRIMES, n_layers=3, layers=KINDS)
IDS = [int(i) for i in np.random.default_rng(5).permutation(101)[:24]]
SOURCE = [3, 5, 7, 9]
# Tokens before the step, and in it: a prefill, a chunk and one token, each of which quantises, evicts or grows arrays.
CUTS = {"prefill": (0, 9), "chunk": (7, 5), "token": (8, 1)}


@cache
def make_model(name: str = "three") -> Model:
    config = THREE if name == "three" else read_small_models()[name]
    return Model(config, random_weights(config), dtype="float64")


@dataclass
class Case:
    """A step that is interrupted. `start` makes the caches before it, `step` runs it and returns logits, `later` what
    the caches then give: logits of later steps, rows, and what a pool holds."""

    name: str
    model: Model
    start: Callable[[], list[Cache]]
    step: Callable[[list[Cache]], list[Any]]
    later: Callable[[list[Cache]], list[Any]]


@dataclass
class Report:
    """What came of the interruptions of one case."""

    lines: int = 0
    counts: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return f"{self.lines} lines: {found}{''.join(f'; {text}' for text in self.wrong[:3])}"


def same(got: list[Any], wanted: list[Any]) -> bool:
    return len(got) == len(wanted) and all(np.array_equal(*pair) for pair in zip(got, wanted, strict=True))


def contents(caches: list[Cache]) -> list[Any]:
    """Everything that can be seen of caches."""
    found: list[Any] = []
    for held in caches:
        found += [held.seen, held.ids, held.logical_bytes, held.metadata_bytes, held.source is None]
        found += [x for layer in held.layers for x in (np.array(layer.keys), np.array(layer.values))]
    return found


def one_by_one(model: Model, caches: list[Cache], ids: Iterable[int]) -> list[Any]:
    """Logits of `ids`, fed to each cache a token at a time, and the contents at the end."""
    return [model([i], held) for held in caches if held.keeps for i in ids] + contents(caches)


def plain_case(spec: str, cut: str, name: str = "three") -> Case:
    """One sequence under the policy `spec`. UsageError: the policy does not fit the model."""
    model, (before, new) = make_model(name), CUTS[cut]
    ids = [i % model.config.vocab_size for i in IDS]
    source = {} if model.config.encoder is None else {"encoder_ids": SOURCE}
    model.new_cache(spec)

    def start() -> list[Cache]:
        held = model.new_cache(spec)
        if before:
            model(ids[:before], held, **source)
        return [held]

    def step(caches: list[Cache]) -> list[Any]:
        return [model(ids[before : before + new], caches[0], **source)]

    def later(caches: list[Cache]) -> list[Any]:
        return one_by_one(model, caches, ids[before + new : before + new + 3])

    return Case(f"{name} {spec} {cut}", model, start, step, later)


def batch_case(spec: str) -> Case:
    """Two sequences in one step, after 7 and 8 tokens."""
    model = make_model()

    def start() -> list[Cache]:
        caches = [model.new_cache(spec), model.new_cache(spec)]
        model(IDS[:7], caches[0])
        model(IDS[1:9], caches[1])
        return caches

    def step(caches: list[Cache]) -> list[Any]:
        return model.batch([(IDS[7:12], caches[0]), (IDS[9:10], caches[1])])

    def later(caches: list[Cache]) -> list[Any]:
        return one_by_one(model, caches, IDS[12:15])

    return Case(f"three {spec} batch", model, start, step, later)


def pool_case(size: int, blocks: int | None, together: bool = False, new: int = 5) -> Case:
    """A fork of a sequence, and one that reuses its prefix, in one pool: the fork writes into a shared block."""
    model = make_model()

    def start() -> list[Cache]:
        pool = model.new_pool(f"paged:{size}", blocks=blocks)
        first = pool.new_cache()
        model(IDS[:7], first)
        reused = pool.new_cache()
        pool.reuse(reused, IDS[:9])
        model(IDS[reused.seen : 9], reused)
        return [first, first.fork(), reused]

    def step(caches: list[Cache]) -> list[Any]:
        if together:
            return model.batch([(IDS[10:15], caches[1]), (IDS[7:9], caches[0]), (IDS[9:10], caches[2])])
        return [model(IDS[10 : 10 + new], caches[1])]

    def later(caches: list[Cache]) -> list[Any]:
        pool = caches[0].pool
        held: list[Any] = [pool.held, pool.free, pool.logical_bytes]
        found = one_by_one(model, caches, IDS[15:17]) + held
        again = pool.new_cache()
        seen = pool.reuse(again, IDS[:9])
        found += [seen, model(IDS[seen:9], again)]
        branch = again.fork()
        found += [model(IDS[9:12], branch), pool.held]
        del branch
        found.append(pool.held)
        for one in (*caches, again):
            one.clear()
        return [*found, pool.held, pool.free]

    what = "batch" if together else f"of {new}"
    return Case(f"three pool of {blocks} blocks of {size}: step {what}", model, start, step, later)


OPERATIONS: dict[str, Callable[[Cache], list[Any]]] = {
    "crop": lambda held: [held.crop(8)],
    "clear": lambda held: [held.clear()],
    "fork": lambda held: contents([held.fork()]),
}


def operation_case(spec: str, name: str) -> Case:
    """An operation on a cache of nine tokens."""
    model = make_model()

    def start() -> list[Cache]:
        held = model.new_cache(spec)
        model(IDS[:9], held)
        return [held]

    def step(caches: list[Cache]) -> list[Any]:
        return OPERATIONS[name](caches[0])

    def later(caches: list[Cache]) -> list[Any]:
        return one_by_one(model, caches, IDS[caches[0].seen : 12])

    return Case(f"three {spec} {name}", model, start, step, later)


def reuse_case() -> Case:
    """A sequence that takes over the blocks of another one's prefix."""
    model = make_model()

    def start() -> list[Cache]:
        pool = model.new_pool("paged:2", blocks=20)
        caches = [pool.new_cache(), pool.new_cache()]
        model(IDS[:9], caches[0])
        return caches

    def step(caches: list[Cache]) -> list[Any]:
        return [caches[1].pool.reuse(caches[1], IDS[:9])]

    def later(caches: list[Cache]) -> list[Any]:
        return [*one_by_one(model, caches, IDS[9:12]), caches[0].pool.held, caches[0].pool.kept]

    return Case("three reuse", model, start, step, later)


def list_operations() -> Iterator[Case]:
    """Operations between steps: crop, clear, fork, reuse."""
    for spec in ("dynamic", "paged:4", "window:5", "sinks:2+3", "int8:residual=2,group=2", "offload:dynamic"):
        for name in OPERATIONS:
            yield operation_case(spec, name)
    yield reuse_case()


def list_cases() -> Iterator[Case]:
    """Every policy in a prefill, a chunk and a step of one token; batches; pools; cross-attention."""
    for spec in SPECS:
        for cut in CUTS:
            yield plain_case(spec, cut)
    for spec in ("dynamic", "int8:residual=2,group=2", "h2o:6", "paged:4", "sinks:2+3"):
        yield batch_case(spec)
    for together in (False, True):
        yield pool_case(2, 30, together)
        yield pool_case(4, None, together)
    yield pool_case(4, None, new=1)  # copies a shared block and needs no further one
    for name in ("t5", "bart"):
        for spec in ("none", "dynamic", "int8:residual=2,head", "paged:4"):
            yield plain_case(spec, "prefill", name)


def interrupt(case: Case, line: int, wanted: tuple[list[Any], list[Any]], report: Report, **how: Any) -> None:
    """Interrupt the step at `line`, repeat it, and enter what came into the report. `wanted`: the logits of the step
    and what came later, undisturbed."""
    caches = case.start()
    before = [held.seen for held in caches]
    injector = Injector(line, **how)
    if not injector.run(lambda: case.step(caches)):
        report.counts["not reached"] += 1
        return
    here = case.model.ops.here
    got: list[Any]
    try:
        if [held.seen for held in caches] == before:
            kind, wants = "repeated", [*wanted[0], *wanted[1]]
            got = [*case.step(caches), *case.later(caches)]
        else:
            kind, wants = "done", wanted[1]
            got = case.later(caches)
    except UsageError as error:
        report.counts["refused"] += 1
        report.wrong.append(f"{injector.place}: {error}")
        return
    except Exception as error:
        report.counts["failed"] += 1
        report.wrong.append(f"{injector.place}: {error!r}")
        return
    if not same(got, wants) or here.place is not case.model.ops.root:
        kind = "WRONG"
        report.wrong.append(f"{injector.place}: other numbers")
    report.counts[kind] += 1


def run(case: Case, every: int = 1, first: int = 0, **how: Any) -> Report:
    """Interrupt each `every`-th line from `first` on."""
    caches = case.start()
    wanted = case.step(caches), case.later(caches)
    caches = case.start()
    report = Report(count_lines(lambda: case.step(caches), opcodes=how.get("opcodes", False)))
    for line in range(first, report.lines, every):
        interrupt(case, line, wanted, report, **how)
    return report
