"""The difference between two correct implementations in a number format, measured on a random model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.checks import check_progress, check_whole
from kvsim.schemas.display import mimebundle
from kvsim.testing.feeds.chunking import equal_chunks, split_chunks
from kvsim.testing.feeds.references import Allowed, Reference, allow
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rounding import format_name, rounding
from kvsim.testing.subject.calls import max_abs
from kvsim.testing.subject.room import check_room, check_work
from kvsim.testing.subject.weights import Sizes, make_weights
from kvsim.weights import map_arrays

CHUNK = 64  # tokens a step


@dataclass(frozen=True)
class Tolerance:
    """Errors are max |logit - float64 logit|.

    `emulated`: of the independent decoder with every intermediate result rounded to the format; `own`: of kvsim's own
    run, None if kvsim does not compute in that format; `largest`: max |logit|; `allowed`: the bound that follows.
    """

    sizes: Sizes
    dtype: str
    context: int
    largest: float
    emulated: float
    own: float | None
    allowed: Allowed

    _repr_mimebundle_ = mimebundle


def measure_tolerance(
    dtype: str, context: int, seed: int = 0, progress: Callable[[int, int], None] | None = None, **sizes: Any
) -> Tolerance:
    """Run random weights on a text of `context` tokens in float64 and in `dtype`. `sizes`: as `kvsim.testing.weights`.

    `progress(done, total)` is called after each chunk. UsageError: an unknown format, or sizes that do not go
    together or are too large: their arrays, or the work.
    """
    check_progress(progress)
    seed = check_whole("seed", seed, 0)
    name, context = format_name(dtype), check_whole("context", context, 1)
    check_room(context, min(CHUNK, context), check_whole("heads", sizes.get("heads", Sizes.heads), 1))
    if name == "float64":  # compared with a run of the whole text at once
        check_room(context, context, sizes.get("heads", Sizes.heads))
    check_work(Sizes(context=context, **sizes).work(context))
    weights = make_weights(seed=seed, dtype=name, context=context, **sizes)
    reference = Reference(weights)
    check_room(context, weights.config.vocab)
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, weights.config.vocab, context)]
    text = split_chunks(ids, equal_chunks(context, CHUNK))
    right = reference.run(text)
    keep = rounding(name)
    decoder, rows = Decoder(reference.config, map_arrays(reference.weights, keep), "dynamic", keep), []
    for number, chunk in enumerate(text, start=1):
        with np.errstate(all="ignore"):
            rows.append(decoder.forward(chunk))
        if progress is not None:
            progress(number, len(text))
    emulated, own = max_abs(np.concatenate(rows) - right), None
    if name in reference.model().ops.backend.dtypes:
        own = max_abs((reference.run(text, name) if name != "float64" else reference.run([ids])) - right)
    allowed = allow(name, max(emulated, own or 0.0), max_abs(right))
    return Tolerance(weights.config, name, context, max_abs(right), emulated, own, allowed)
