"""The first layer that differs, if a decoder makes its layers visible.

`layers(state)` returns the outputs of layers for the tokens of the last step, [T, D] each, the first layer first, and
as many as are visible. It is called only after the logits were found to differ.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.config import Config
from kvsim.testing.feeds.feeding import Check, Compared
from kvsim.testing.feeds.references import Allowed, Reference, allow
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rounding import Rounding, exact, rounding
from kvsim.testing.subject.calls import Chunks, UnreadableError, call, max_abs, to_host
from kvsim.weights import Layer, Weights, map_arrays

Layers = Callable[[Any], Any]


class Seen(NamedTuple):
    """The outputs of the visible layers for one text, the expected ones, and the difference allowed in each layer."""

    got: list[Any]  # [T, D] each
    expected: list[Any]
    allowed: list[Allowed]


class Place(NamedTuple):
    """The first number of the first layer that differs, in the first step in which a layer does. Steps are from 0."""

    step: int
    layer: int
    row: int  # of the whole text
    channel: int


class LayersKept(Decoder):
    """The independent decoder, which keeps the output of each layer, step by step."""

    def __init__(self, config: Config, weights: Weights, policy: str = "dynamic", keep: Rounding = exact) -> None:
        super().__init__(config, weights, policy, keep)
        self.kept: list[list[Any]] = [[] for _ in config.layers]

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        output = super().block(layer, w, x, start)
        self.kept[layer].append(np.stack(output))
        return output

    def layers(self) -> list[Any]:
        """The outputs of all layers for all tokens so far, [T, D] each."""
        return [np.concatenate(parts) for parts in self.kept]


def expected_layers(reference: Reference, text: Chunks, dtype: str = "float64") -> list[Any]:
    """The output [T, D] of each layer, by kvsim's own model."""
    model = reference.model(dtype)
    cache = model.new_cache(reference.policy)
    with np.errstate(all="ignore"), model.watch("layers.*.hidden") as seen:
        for chunk in text:
            model(chunk, cache)
    parts = [seen.history[f"layers.{i}.hidden"] for i in range(reference.config.n_layers)]
    return [np.concatenate([np.asarray(part, np.float64) for part in steps]) for steps in parts]


def emulated_layers(reference: Reference, text: Chunks, dtype: str) -> list[Any]:
    """The output [T, D] of each layer, by the independent decoder with every intermediate result rounded to `dtype`."""
    keep = rounding(dtype)
    decoder = LayersKept(reference.config, map_arrays(reference.weights, keep), reference.policy, keep)
    with np.errstate(all="ignore"):
        for chunk in text:
            decoder.forward(chunk)
    return decoder.layers()


def allowed_layers(reference: Reference, text: Chunks, dtype: str, expected: list[Any]) -> list[Allowed]:
    """What rounding may change in each layer: as for logits, twice the reference's own error, and a floor."""
    runs = []
    if dtype == "float64" and reference.lossless:
        runs.append(expected_layers(reference, [[i for chunk in text for i in chunk]]))
    elif dtype in reference.model().ops.backend.dtypes:
        runs.append(expected_layers(reference, text, dtype))
    if reference.covered:
        runs.append(emulated_layers(reference, text, dtype))
    bounds = []
    for layer, right in enumerate(expected):
        errors = [float(np.abs(run[layer] - right).max()) for run in runs]
        own = max([0.0, *(error for error in errors if math.isfinite(error))])
        bounds.append(allow(dtype, own, max_abs(right)))
    return bounds


def given_layers(check: Check, text: Chunks, layers: Layers) -> list[Any]:
    """The output [T, D] of each visible layer of the decoder under test, which is fed the text again. UnreadableError:
    `layers` returns no such list."""
    parts: list[list[Any]] = []
    state = call(check.make)
    for chunk in text:
        call(check.step, state, list(chunk))
        parts.append(_read(call(layers, state), len(chunk), check.reference))
    count = min(len(part) for part in parts)
    return [np.concatenate([part[i] for part in parts]) for i in range(count)]


def _read(given: Any, n_new: int, reference: Reference) -> list[Any]:
    """The outputs of one step as NumPy arrays. UnreadableError: no list of arrays [T, D], or too many."""
    most, shape = reference.config.n_layers, (n_new, reference.config.d_model)
    read = [to_host(part)[0] for part in given] if isinstance(given, list | tuple) else []
    if not 1 <= len(read) <= most or any(part.shape != shape for part in read):
        raise UnreadableError(
            "layers gave arrays of shapes {got}, expected a list of 1 to {most} of shape {expected}",
            got=[list(part.shape) for part in read], most=most, expected=list(shape),
        )  # fmt: skip
    return read


def see_layers(check: Check, compared: Compared, layers: Layers) -> Seen:
    """Run one feed in the decoder under test and in the reference. UnreadableError: `layers` returns no such list."""
    got = given_layers(check, compared.text, layers)
    expected = expected_layers(check.reference, compared.text)[: len(got)]
    return Seen(got, expected, allowed_layers(check.reference, compared.text, check.allowed.dtype, expected))


def first_differing(seen: Seen, feed: tuple[int, ...]) -> Place | None:
    """The first step in which a visible layer differs, in that step the first such layer, and its first number."""
    start = 0
    for step, size in enumerate(feed):
        rows = slice(start, start + size)
        for layer, (got, expected, allowed) in enumerate(zip(*seen, strict=True)):
            wrong = np.argwhere(~(np.abs(got[rows] - expected[rows]) <= allowed.value))
            if len(wrong):
                row, channel = (int(i) for i in wrong[0])
                return Place(step, layer, start + row, channel)
        start += size
    return None
