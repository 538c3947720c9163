"""Texts on which right decoders quantise to the same codes, whatever the order of their sums.

A number that stands halfway between two codes, but for its dtype's rounding error, may become the one or the other, and
both are right; the same holds for a group's scale, which is kept in float16. Each moves logits by far more than
rounding, so that no bound on them would tell such a decoder from a wrong one. Texts are drawn until every number that
is quantised, and every scale, keeps further from such a boundary than the dtype's rounding may move it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.feeds.programme import Feed, text_of
from kvsim.testing.feeds.references import Reference
from kvsim.testing.independent.decoder import POLICIES, Decoder, read_policy
from kvsim.testing.independent.rounding import FORMATS, rounding
from kvsim.testing.independent.rows import QuantisedRows, Rows
from kvsim.testing.subject.calls import largest
from kvsim.testing.verdict.diagnosing import Chunks
from kvsim.weights import map_arrays

DRAWS = 1000  # texts that are tried
STRIDE = 1_000_000  # between the numbers of texts drawn for one feed
FINE = ("float64", "float32")  # in coarser formats codes differ anyway, and the reference's own error has that in it
Margins = dict[tuple[int, str], float]  # for the keys and the values of each layer


class Noting(QuantisedRows):
    """Notes every array [..., n] that is quantised, whose last axis shares a scale."""

    kind = "keys"

    def pack_keys(self, x: Any) -> Any:
        self.kind = "keys"
        return super().pack_keys(x)

    def pack_values(self, x: Any) -> Any:
        self.kind = "values"
        return super().pack_values(x)

    def through(self, x: Any) -> Any:
        self.decoder.noted.append((self.layer, self.kind, x))  # type: ignore[attr-defined]
        return super().through(x)


class NotingDecoder(Decoder):
    """The independent decoder, which notes what it quantises."""

    caches = POLICIES | {"int8": Noting}

    def new_rows(self) -> list[Rows]:
        self.noted: list[tuple[int, str, Any]] = []
        return super().new_rows()


def quantised(reference: Reference, text: Chunks) -> Iterator[tuple[int, str, Any]]:
    """Layer, keys or values, and the array: everything that is quantised while a text is fed, as it comes."""
    decoder = NotingDecoder(reference.config, reference.weights, reference.policy)
    for chunk in text:
        decoder.forward(chunk)
        yield from decoder.noted
        decoder.noted.clear()


def model_rows(reference: Reference, text: Chunks, dtype: str) -> dict[tuple[int, str], Any]:
    """The keys and values [G, S, K] of each layer, not quantised, by kvsim's own model."""
    model = reference.model(dtype)
    cache = model.new_cache("dynamic")
    for chunk in text:
        model(chunk, cache)
    held = [(i, "keys", layer.keys) for i, layer in enumerate(cache.layers)]
    held += [(i, "values", layer.values) for i, layer in enumerate(cache.layers)]
    return {(i, kind): np.asarray(x, np.float64) for i, kind, x in held}


def emulated_rows(reference: Reference, text: Chunks, dtype: str) -> dict[tuple[int, str], Any]:
    """The same by the independent decoder, every step's result kept in `dtype`."""
    keep = rounding(dtype)
    decoder = Decoder(reference.config, map_arrays(reference.weights, keep), "dynamic", keep)
    for chunk in text:
        decoder.forward(chunk)
    held = [(i, "keys", rows.keys) for i, rows in enumerate(decoder.rows)]
    held += [(i, "values", rows.values) for i, rows in enumerate(decoder.rows)]
    return {(i, kind): np.stack(x, axis=1) for i, kind, x in held}


def moved_by_rounding(reference: Reference, text: Chunks, dtype: str) -> Margins:
    """How far rounding in `dtype` may move what is quantised: twice the reference's own error."""
    right = model_rows(reference, text, "float64")
    runs = [model_rows(reference, text, dtype), emulated_rows(reference, text, dtype)]
    return {label: 2 * max(largest(run[label] - x) for run in runs) for label, x in right.items()}


def clearance(x: Any) -> float:
    """How far the numbers [..., n] of one scale may move, at least, before a code or the scale is another; less what
    float32, in which they are quantised, takes of it."""
    eps = FORMATS["float32"].eps
    top = np.abs(x).max(axis=-1, keepdims=True)
    kept = (top / 127).astype(np.float16)
    edges = [(kept.astype(np.float64) + np.nextafter(kept, np.float16(to))) / 2 for to in (-np.inf, np.inf)]
    to_scale = 127 * np.minimum(top / 127 - edges[0], edges[1] - top / 127) - eps * top
    used = np.where(kept == 0, 1.0, kept.astype(np.float64))
    to_code = used * (0.5 - np.abs(x / used - np.rint(x / used))) - eps * np.abs(x)
    return float(np.where(top > 0, np.minimum(to_code, to_scale), np.inf).min())  # zeros stay zeros


def choose_text(reference: Reference, feed: Feed, number: int, seed: int, margins: Margins) -> Chunks:
    """The text of feed `number`; under int8 the first of many on which everything that is quantised keeps its margin.
    UsageError: there is none."""
    draw = 0
    if margins:
        key = (fingerprint(reference.weights), repr(reference.config), reference.policy, feed, number, seed, DRAWS,
               tuple(margins.items()))  # fmt: skip
        draw = int(KNOWN.get(key, lambda: [np.array(_find_draw(reference, feed, number, seed, margins))])[0])
    return text_of(feed, number + STRIDE * draw, reference.config.vocab_size, seed)


def _find_draw(reference: Reference, feed: Feed, number: int, seed: int, margins: Margins) -> int:
    """The number of the first text that keeps its margins."""
    for draw in range(DRAWS):
        text = text_of(feed, number + STRIDE * draw, reference.config.vocab_size, seed)
        if all(clearance(x) > margins[i, kind] for i, kind, x in quantised(reference, text)):
            return draw
    raise UsageError(
        "in each of the {count} texts that were tried some number stands so near a rounding boundary of {policy} that"
        ' right decoders differ: give a smaller reference, say dtype="float64" if that is computed in, or use'
        " assert_close_to and assert_quantiser",
        count=DRAWS,
        policy=reference.policy,
    )


def margins_of(reference: Reference, feed: Feed, dtype: str, seed: int) -> Margins:
    """What `choose_text` must keep from boundaries under the reference's policy, measured on one text; none where
    nothing is quantised. UsageError: the policy quantises, but nothing within `feed`: nothing would be checked."""
    if not reference.covered or read_policy(reference.policy)[0] != "int8":
        return {}
    text = text_of(feed, 0, reference.config.vocab_size, seed)
    if not any(True for _ in quantised(reference, text)):
        raise UsageError(
            "under {policy} nothing is quantised in {count} tokens, and so nothing would be checked: ask for a smaller"
            ' group and residual, as in "int8:group=2,residual=1"',
            policy=reference.policy,
            count=sum(feed),
        )
    return moved_by_rounding(reference, text, dtype) if dtype in FINE else {}
