"""How far right code may be off in a number format: measured, not guessed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.testing.feeds.programme import chunks, pieces
from kvsim.testing.feeds.references import Allowed, Reference, allow
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rounding import format_name, rounding
from kvsim.testing.subject.calls import largest
from kvsim.testing.subject.weights import Sizes, make_weights
from kvsim.weights import map_arrays

CHUNK = 64


@dataclass(frozen=True)
class Tolerance:
    """What was measured. `emulated`: every step's result kept in the format; `own`: kvsim's own run, None where it does
    not compute in that format."""

    sizes: Sizes
    dtype: str
    context: int
    largest: float
    emulated: float
    own: float | None
    allowed: Allowed


def measure_tolerance(
    dtype: str, context: int, seed: int = 0, progress: Callable[[int, int], None] | None = None, **sizes: Any
) -> Tolerance:
    """Random weights and a text of `context` tokens, in float64 and in `dtype`."""
    name = format_name(dtype)
    weights = make_weights(seed=seed, dtype=name, context=context, **sizes)
    reference = Reference(weights)
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, weights.config.vocab, context)]
    text = chunks(ids, pieces(context, CHUNK))
    right = reference.run(text)
    keep = rounding(name)
    decoder, rows = Decoder(reference.config, map_arrays(reference.weights, keep), "dynamic", keep), []
    for number, chunk in enumerate(text, start=1):
        with np.errstate(all="ignore"):
            rows.append(decoder.forward(chunk))
        if progress is not None:
            progress(number, len(text))
    emulated, own = largest(np.concatenate(rows) - right), None
    if name in reference.model().ops.backend.dtypes:
        own = largest((reference.run(text, name) if name != "float64" else reference.run([ids])) - right)
    allowed = allow(name, max(emulated, own or 0.0), largest(right))
    return Tolerance(weights.config, name, context, largest(right), emulated, own, allowed)
