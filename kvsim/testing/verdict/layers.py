"""The first layer that differs, where a decoder makes its layers visible.

`layers(state)` gives what each layer gave for the tokens of the last step, [T, D] each, the first layer first, and no
more than are visible. Asked only when the logits were found to differ.
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
from kvsim.testing.subject.calls import UnreadableError, call, largest, to_host
from kvsim.testing.verdict.diagnosing import Chunks
from kvsim.weights import Layer, Weights, map_arrays

Layers = Callable[[Any], Any]


class Seen(NamedTuple):
    """A text's layers: what came of those that are visible, and for each what was expected and is allowed."""

    got: list[Any]  # [T, D] each
    expected: list[Any]
    allowed: list[Allowed]


class Place(NamedTuple):
    """The first number of the first layer that differs, in the first step in which one does; steps from 0."""

    step: int
    layer: int
    row: int  # of the whole text
    channel: int


class LayersKept(Decoder):
    """The independent decoder, which keeps what each layer gave, step by step."""

    def __init__(self, config: Config, weights: Weights, policy: str = "dynamic", keep: Rounding = exact) -> None:
        super().__init__(config, weights, policy, keep)
        self.kept: list[list[Any]] = [[] for _ in config.layers]

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        given = super().block(layer, w, x, start)
        self.kept[layer].append(np.stack(given))
        return given

    def layers(self) -> list[Any]:
        """[T, D] each, of everything fed."""
        return [np.concatenate(parts) for parts in self.kept]


def expected_layers(reference: Reference, text: Chunks, dtype: str = "float64") -> list[Any]:
    """[T, D] of each layer, by kvsim's own model."""
    model = reference.model(dtype)
    cache = model.new_cache(reference.policy)
    with np.errstate(all="ignore"), model.watch("layers.*.hidden") as seen:
        for chunk in text:
            model(chunk, cache)
    parts = [seen.history[f"layers.{i}.hidden"] for i in range(reference.config.n_layers)]
    return [np.concatenate([np.asarray(part, np.float64) for part in steps]) for steps in parts]


def emulated_layers(reference: Reference, text: Chunks, dtype: str) -> list[Any]:
    """[T, D] of each layer, by the independent decoder with every step's result kept in `dtype`."""
    keep = rounding(dtype)
    decoder = LayersKept(reference.config, map_arrays(reference.weights, keep), reference.policy, keep)
    with np.errstate(all="ignore"):
        for chunk in text:
            decoder.forward(chunk)
    return decoder.layers()


def allowed_layers(reference: Reference, text: Chunks, dtype: str, expected: list[Any]) -> list[Allowed]:
    """What rounding may do to each layer: as to the logits, twice the reference's own error and a floor."""
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
        bounds.append(allow(dtype, own, largest(right)))
    return bounds


def given_layers(check: Check, text: Chunks, layers: Layers) -> list[Any]:
    """[T, D] of each visible layer of the decoder under test, which is fed the text once more. UnreadableError."""
    parts: list[list[Any]] = []
    state = call(check.make)
    for chunk in text:
        call(check.step, state, list(chunk))
        parts.append(_read(call(layers, state), len(chunk), check.reference))
    count = min(len(part) for part in parts)
    return [np.concatenate([part[i] for part in parts]) for i in range(count)]


def _read(given: Any, n_new: int, reference: Reference) -> list[Any]:
    """The layers of one step, on the host."""
    most, shape = reference.config.n_layers, (n_new, reference.config.d_model)
    read = [to_host(part)[0] for part in given] if isinstance(given, list | tuple) else []
    if not 1 <= len(read) <= most or any(part.shape != shape for part in read):
        raise UnreadableError(
            "layers gave arrays of shapes {got}, expected a list of 1 to {most} of shape {expected}",
            got=[list(part.shape) for part in read], most=most, expected=list(shape),
        )  # fmt: skip
    return read


def see_layers(check: Check, compared: Compared, layers: Layers) -> Seen:
    """Both sides of one feed. UnreadableError: what `layers` gives is no such list."""
    got = given_layers(check, compared.text, layers)
    expected = expected_layers(check.reference, compared.text)[: len(got)]
    return Seen(got, expected, allowed_layers(check.reference, compared.text, check.allowed.dtype, expected))


def first_differing(seen: Seen, feed: tuple[int, ...]) -> Place | None:
    """The first step in which a visible layer differs, there the first layer, and there the first number."""
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
