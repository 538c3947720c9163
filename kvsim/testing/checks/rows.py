"""The rows that somebody else's cache holds, where that is asked for: layouts and orders are their own business."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.testing.feeds.programme import chunks, feeds, text_of
from kvsim.testing.feeds.references import Reference, allow
from kvsim.testing.subject.calls import UnreadableError, call, largest, to_host
from kvsim.testing.subject.layouts import read_layout
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.verdict.failing import OracleError, tell_allowed
from kvsim.testing.verdict.sentences import language, tell


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
    """Does the cache hold kvsim's rows? `rows(state)` gives (keys, values) for each layer, in `layout`, in the order of
    their positions; keys as kvsim keeps them: rotated (under sinks not). OracleError: no."""
    __tracebackhide__ = True
    make, step, rows = (limited(function, seconds) for function in (make, step, rows))
    lang, exact, shape = language(), Reference(reference, policy), read_layout(layout)
    config, model = exact.config, exact.model()
    for number, feed in enumerate(feeds(config, policy, 0, seed)[:3]):
        text = text_of(feed, number, config.vocab_size, seed)
        cache = model.new_cache(policy)
        try:
            state = call(make)
            for chunk in text:
                call(step, state, list(chunk))
                model(chunk, cache)
            held = read_rows(call(rows, state), config.n_layers)
        except UnreadableError as error:
            raise OracleError(tell(lang, error.problem.template, **error.problem.values), {"diagnosis": []}) from error
        ids = [i for chunk in text for i in chunk]
        for i, layer in enumerate(held):
            for which, (got, dtype), expected in zip(
                ("keys", "values"), layer, (cache.layers[i].keys, cache.layers[i].values), strict=True
            ):
                wanted = np.asarray(expected)
                g, s, d = wanted.shape
                if got.shape != shape.shape(1, s, g, d):
                    raise OracleError(
                        tell(lang, "the rows of layer {layer} have shape {got}, expected {expected}", layer=i,
                             got=list(got.shape), expected=list(shape.shape(1, s, g, d))), {"diagnosis": []},
                    )  # fmt: skip
                own = 0.0 if allowed is not None else exact.own_error([chunks(ids, feed)], dtype)
                bound = allow(dtype, own, largest(wanted), allowed)
                difference = np.abs(shape.take(got, (1, s, g, d))[0].transpose(1, 0, 2) - wanted)
                if not (difference <= bound.value).all():
                    raise OracleError(
                        tell(lang, "the rows of layer {layer} differ from the reference's: {which}, max |diff| {worst}"
                             " ({allowed})", layer=i, which=which, worst=f"{difference.max():.3g}",
                             allowed=tell_allowed(lang, bound)), {"diagnosis": []},
                    )  # fmt: skip
