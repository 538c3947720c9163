"""The check of the rows that a cache holds. It is optional: how a cache stores its rows is its own business."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.checks import check_whole
from kvsim.testing.feeds.chunking import choose_feeds, make_text
from kvsim.testing.feeds.references import Reference, allow, check_allowed
from kvsim.testing.subject.calls import Chunks, Problem, UnreadableError, call, max_abs, to_host
from kvsim.testing.subject.layouts import Layout, read_layout
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure


class Held(NamedTuple):
    """The keys or the values of one layer: as the cache under test holds them, in any layout, and kvsim's [G, S, K]."""

    layer: int
    kind: str  # "keys" or "values"
    got: Any
    dtype: str
    expected_GSK: Any


def read_rows(given: Any, n_layers: int) -> list[Any]:
    """Keys and values of each layer, as `to_host` reads them. UnreadableError: no such pairs."""
    layers = list(given) if isinstance(given, list | tuple) else []
    if len(layers) != n_layers or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in layers):
        raise UnreadableError("rows gave {got}, expected (keys, values) for each of {layers} layers",
                              got=type(given).__name__, layers=n_layers)  # fmt: skip
    return [tuple(to_host(part) for part in pair) for pair in layers]


def assert_cache_rows(
    make: Callable[[], Any], step: Callable[[Any, list[int]], Any], rows: Callable[[Any], list[tuple[Any, Any]]],
    reference: Any, *, layout: str = "h t d", policy: str = "dynamic", seed: int = 0, allowed: float | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that the cache holds the rows that kvsim's cache under `policy` holds.

    `rows(state)` returns (keys, values) for each layer, in `layout`, in the order of their positions; keys as kvsim
    keeps them: rotated (under sinks not). `allowed`: replaces the difference that rounding explains. A call may take
    `seconds`. OracleError: other rows, or none that can be read. UsageError: as `assert_policy`.
    """
    __tracebackhide__ = True
    make, step = limited(make, seconds, "make"), limited(step, seconds, "step")
    rows = limited(rows, seconds, "rows")
    seed, allowed = check_whole("seed", seed, 0), check_allowed(allowed)
    exact, shape = Reference(reference, policy), read_layout(layout)
    for number, feed in enumerate(choose_feeds(exact.config, policy, 0, seed)[:3]):
        text = make_text(feed, number, exact.config.vocab_size, seed)
        try:
            held = feed_both(make, step, rows, exact, text)
        except UnreadableError as error:
            raise OracleError(Failure(headlines=(error.problem,), compared=False)) from error
        for one in held:
            if (problem := compare_rows(one, shape, exact, text, allowed)) is not None:
                raise OracleError(Failure(headlines=(problem,)))


def feed_both(
    make: Callable[[], Any], step: Callable[[Any, list[int]], Any], rows: Callable[[Any], Any], exact: Reference,
    text: Chunks,
) -> list[Held]:  # fmt: skip
    """Feed a text to the decoder under test and to kvsim's model: keys and values of every layer. UnreadableError."""
    model = exact.model()
    cache, state = model.new_cache(exact.policy), call(make)
    for chunk in text:
        call(step, state, list(chunk))
        model(chunk, cache)
    held = []
    for i, layer in enumerate(read_rows(call(rows, state), exact.config.n_layers)):
        for kind, (got, dtype) in zip(("keys", "values"), layer, strict=True):
            held.append(Held(i, kind, got, dtype, np.asarray(getattr(cache.layers[i], kind))))
    return held


def compare_rows(held: Held, layout: Layout, exact: Reference, text: Chunks, allowed: float | None) -> Problem | None:
    """What is wrong with them: another shape, or a difference that rounding does not explain."""
    g, s, d = held.expected_GSK.shape
    if held.got.shape != (shape := layout.shape(1, s, g, d)):
        return Problem("the rows of layer {layer} have shape {got}, expected {expected}",
                       {"layer": held.layer, "got": list(held.got.shape), "expected": list(shape)})  # fmt: skip
    own = 0.0 if allowed is not None else exact.own_error([text], held.dtype)
    bound = allow(held.dtype, own, max_abs(held.expected_GSK), allowed)
    got_GSK = layout.take(held.got, (1, s, g, d))[0].transpose(1, 0, 2)
    difference = np.abs(got_GSK - held.expected_GSK)
    if (difference <= bound.value).all():
        return None
    return Problem(
        "the rows of layer {layer} differ from the reference's: {which}, max |diff| {worst} ({allowed})",
        {"layer": held.layer, "which": held.kind, "worst": f"{difference.max():.3g}", "allowed": bound},
    )
