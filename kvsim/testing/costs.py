"""What somebody else's decoder computes: score cells and projected rows, counted where its arrays are NumPy's.

For the time of the count, the weights in the dict are arrays that tell of every product they meet; so do all arrays
that are made of them. A product with a projection's weights has as many rows as go through it; a product of queries
with anything else that is no weight gives scores; a product of scores gives none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.diagnosing import Chunks
from kvsim.testing.failing import OracleError
from kvsim.testing.foreign import UnreadableError, call
from kvsim.testing.model_weights import ModelWeights
from kvsim.testing.programme import chunks
from kvsim.testing.sentences import language, tell

KINDS = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
PRODUCTS = {"matmul", "dot", "inner", "vdot", "tensordot", "einsum", "vecdot", "matvec", "vecmat"}


NOTHING: frozenset[str] = frozenset()


class Tally:
    """What was seen."""

    def __init__(self, d_model: int) -> None:
        self.d_model = d_model
        self.cells = self.rows = self.products = 0


class Told(np.ndarray[Any, Any]):
    """An array that tells of its products. `kinds`: what it was made of: "weight:query", "query", "scores" ..."""

    tally: Tally | None = None
    kinds: frozenset[str] = NOTHING

    def __array_finalize__(self, source: Any) -> None:
        self.tally, self.kinds = getattr(source, "tally", None), getattr(source, "kinds", NOTHING)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if "out" in keywords:
            keywords["out"] = tuple(plain(x) for x in keywords["out"])
        result = getattr(ufunc, method)(*[plain(x) for x in inputs], **keywords)
        return self.known(ufunc.__name__, inputs, result)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        result = function(*plain(args), **plain(keywords))
        return self.known(function.__name__, [*found_in(args), *found_in(keywords)], result)

    def dot(self, other: Any, out: Any = None) -> Any:
        """The method, which NumPy does not tell of."""
        return vars(np)["dot"](self, other)

    def known(self, name: str, inputs: Any, result: Any) -> Any:
        """The result, as what it was made of."""
        if isinstance(result, list | tuple):
            return type(result)(self.known(name, inputs, part) for part in result)
        if not isinstance(result, np.ndarray) or result.dtype.kind != "f":
            return result
        kinds = NOTHING.union(*(x.kinds for x in inputs if isinstance(x, Told)))
        if name in PRODUCTS and self.tally is not None:
            arrays = [x for x in inputs if isinstance(x, np.ndarray)]
            kinds = note_product(self.tally, arrays, result)
        made = result.view(Told)
        made.tally, made.kinds = self.tally, kinds
        return made


def plain(x: Any) -> Any:
    """The same as NumPy's own."""
    if isinstance(x, Told):
        return x.view(np.ndarray)
    if isinstance(x, list | tuple):
        return type(x)(plain(part) for part in x)
    return {name: plain(part) for name, part in x.items()} if isinstance(x, dict) else x


def found_in(x: Any) -> Iterator[Any]:
    """Every array in arguments."""
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from found_in(part)
    elif isinstance(x, dict):
        yield from found_in(list(x.values()))


def note_product(tally: Tally, arrays: list[Any], result: Any) -> frozenset[str]:
    """Count one product; what its result is."""
    tally.products += 1
    kinds: list[frozenset[str]] = [getattr(x, "kinds", NOTHING) for x in arrays]
    weights = NOTHING.union(*({k for k in ks if k.startswith("weight")} for ks in kinds))
    if weights:
        made = {k.partition(":")[2] for k in weights} & set(KINDS.values())
        weight = next(x for x, ks in zip(arrays, kinds, strict=True) if any(k.startswith("weight") for k in ks))
        tally.rows += len(made) * (result.size // (weight.size // tally.d_model))
        return frozenset(made)
    together = NOTHING.union(*kinds)
    if "scores" in together:
        return frozenset({"context"})
    if "query" in together:
        tally.cells += int(result.size)
        return frozenset({"scores"})
    return together


@contextmanager
def telling(weights: ModelWeights) -> Iterator[Tally]:
    """While this is open, the arrays in the dict tell of their products."""
    tally, before = Tally(weights.config.d_model), dict(weights)
    for name, array in before.items():
        told = np.asarray(array).view(Told)
        told.tally = tally
        kind = next((kind for part, kind in KINDS.items() if part in name), "other")
        told.kinds = frozenset({f"weight:{kind}"}) if array.ndim == 2 and "embed" not in name else frozenset()
        weights[name] = told
    try:
        yield tally
    finally:
        weights.update(before)


def count_cost(
    make: Callable[[], Any], step: Callable[[Any, list[int]], Any], text: Chunks, weights: ModelWeights
) -> dict[str, int]:
    """Score cells of one head of one layer, and projected rows of one layer: those of which any product was seen."""
    with telling(weights) as tally:
        state = call(make)
        for chunk in text:
            call(step, state, list(chunk))
    config = weights.config
    counted = {
        "score_cells": tally.cells // (config.heads * config.layers),
        "projected_rows": tally.rows // config.layers,
    }
    return {name: count for name, count in counted.items() if count}


def assert_cost(
    make: Callable[[], Any], step: Callable[[Any, list[int]], Any], feed: list[int], *, reference: Any,
    score_cells: int | None = None, projected_rows: int | None = None,
    report: Callable[[Any], dict[str, int]] | None = None,
) -> None:  # fmt: skip
    """Does feeding chunks of these sizes compute what a cache leaves to compute? Score cells are rows x columns of QKᵀ
    of one head of one layer; projected rows those that meet a Q, K or V weight of one layer, each of the three counted.

    Counted where arrays are NumPy's and `make` reads the weights from the dict `reference`; otherwise `report(state)`
    says {"score_cells": ..., "projected_rows": ...} from the shapes that it has. OracleError: another cost, or none
    that could be counted.
    """
    __tracebackhide__ = True
    lang = language()
    if not isinstance(reference, ModelWeights) and report is None:
        raise UsageError("costs are counted in weights made by kvsim.testing.weights: give them as reference=")
    vocab = reference.config.vocab if isinstance(reference, ModelWeights) else 2
    text = chunks([i % vocab for i in range(1, sum(feed) + 1)], tuple(feed))
    try:
        if report is None:
            got = count_cost(make, step, text, reference)
        else:
            state = call(make)
            for chunk in text:
                call(step, state, list(chunk))
            got = dict(call(report, state))
    except UnreadableError as error:
        raise OracleError(tell(lang, error.problem.template, **error.problem.values), {"diagnosis": []}) from error
    asked = {"score_cells": score_cells, "projected_rows": projected_rows}
    if any(expected and name not in got for name, expected in asked.items()):
        message = (
            "no product of NumPy arrays was seen: weights must be read from the dict when make is called, or report="
            " must say what was computed"
        )
        raise OracleError(tell(lang, message), {"diagnosis": []})
    lines = []
    wanted = (
        ("score_cells", score_cells, "score cells of one head of one layer: {got}, expected {expected}"),
        ("projected_rows", projected_rows, "projected rows of Q, K and V of one layer: {got}, expected {expected}"),
    )
    for name, expected, template in wanted:
        if expected is not None and got.get(name) != expected:
            lines.append(tell(lang, template, got=got.get(name), expected=expected))
    if lines:
        n = sum(feed)
        if got.get("projected_rows", 0) > 3 * n:
            lines.append("  " + tell(
                lang,
                "with {rows} projected rows, every token's K and V are computed again at every step: this is no cache",
                rows=got["projected_rows"],
            ))  # fmt: skip
        raise OracleError("\n".join(lines), {"diagnosis": [], "cost": got})
