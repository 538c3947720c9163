"""Calls interrupted within an open ledger: it holds what ran, scopes are empty, and the model is as good as new."""

from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from kvsim.generation.generate import generate
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.ops import Ops
from tests.interruptions.injector import Injector, count_lines
from tests.interruptions.steps import IDS, THREE, Report


class Products:
    """The number of matrix products that ran, counted apart from ledgers."""

    def __init__(self, ops: Ops) -> None:
        matmul, self.ran = ops.xp.matmul, 0

        def counted(a: Any, b: Any) -> Any:
            product = matmul(a, b)
            self.ran += 1
            return product

        ops.xp = copy(ops.xp)
        ops.xp.matmul = counted


class Subject(NamedTuple):
    """A call of a model, whose products are counted."""

    name: str
    model: Model
    products: Products
    call: Callable[[], Any]


@cache
def make_model(plain: bool) -> tuple[Model, Products]:
    """A model whose operations are `kvsim.ops` (`plain`) or those of `kvsim.fast`."""
    model = Model(THREE, random_weights(THREE), dtype="float64")
    if plain:
        model.ops = Ops(model.ops.backend, model.dtype)
    return model, Products(model.ops)


def list_subjects() -> Iterator[Subject]:
    """A prefill, a call without a cache, a batch and `generate`, with plain and with fast operations."""
    for plain in (True, False):
        model, products = make_model(plain)
        name = "plain" if plain else "fast"
        yield Subject(f"{name}: model(ids)", model, products, lambda model=model: model(IDS[:6]))
        yield Subject(f"{name}: prefill", model, products, lambda model=model: model(IDS[:6], model.new_cache()))
        yield Subject(
            f"{name}: batch", model, products,
            lambda model=model: model.batch([(IDS[:4], model.new_cache("int8:residual=2,group=2")), (IDS[:1], None)]),
        )  # fmt: skip
        yield Subject(f"{name}: generate", model, products, lambda model=model: generate(model, IDS[:3], 2, stop=[]))


def check(subject: Subject, injector: Injector, wanted: list[Any], report: Report) -> None:
    """Interrupt the call within two ledgers and a watcher that stay open."""
    model, here = subject.model, subject.model.ops.here
    with model.count() as outer, model.watch("final") as seen, model.count() as inner:
        state, ran = (here.place, here.ledgers, here.watchers), subject.products.ran
        if not injector.run(subject.call):
            report.counts["not reached"] += 1
            return
        ran = subject.products.ran - ran
        same_state = state == (here.place, here.ledgers, here.watchers) and here.place is model.ops.root
        # A product whose result was thrown away before it was entered is not counted.
        exact = len(outer) in (ran, ran - 1) and outer.events == inner.events == wanted[: len(outer)]
        before = len(outer)
        seen.clear()
        subject.call()
        again = outer.events[before:] == wanted and "final" in seen
    closed = (here.place, here.ledgers, here.watchers, here.tally[0]) == (model.ops.root, (), (), None)
    kind = "exact" if same_state and exact and again and closed else "WRONG"
    if kind == "WRONG":
        report.wrong.append(f"{injector.place}: {same_state=} {exact=} {again=} {closed=}")
    report.counts[kind] += 1


def run(subject: Subject, every: int = 1, first: int = 0, **how: Any) -> Report:
    """Interrupt each `every`-th line from `first` on; at the end, the model's logits are those of a new one."""
    with subject.model.count() as ledger:
        subject.call()
    report = Report(count_lines(subject.call, opcodes=how.get("opcodes", False)))
    for line in range(first, report.lines, every):
        check(subject, Injector(line, **how), ledger.events, report)
    new = Model(THREE, random_weights(THREE), dtype="float64")
    new.ops = type(subject.model.ops)(new.ops.backend, new.dtype)
    if not np.array_equal(subject.model(IDS), new(IDS)):
        report.wrong.append("other logits than a new model")
    return report
