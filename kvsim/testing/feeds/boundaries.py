"""Texts on which all correct decoders quantise to the same codes, whatever the order of their sums.

A number halfway between two codes, to within the rounding error of its dtype, may be rounded to either of them, and
both are correct; so may a group's scale, which is stored in float16. The choice changes logits by far more than
rounding does, so that no bound on logits separates such a decoder from a wrong one. Therefore texts are drawn at random
until every quantised number, and every scale, is further from a boundary than rounding may move it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.feeds.chunking import Feed, make_text
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.feeds.references import Reference
from kvsim.testing.independent.decoder import POLICIES, Decoder, read_policy
from kvsim.testing.independent.rounding import FORMATS, rounding
from kvsim.testing.independent.rows import QuantisedRows, Rows
from kvsim.testing.subject.calls import Chunks, max_abs
from kvsim.weights import map_arrays

DRAWS = 1000  # texts that are tried at most
STRIDE = 1_000_000  # between the numbers of texts drawn for one feed
FINE = ("float64", "float32")  # in coarser formats codes differ in any text: the reference's own error includes it
Margins = dict[tuple[int, str], float]  # (layer, "keys" or "values"): how far rounding may move what is quantised


class RecordingRows(QuantisedRows):
    """Records every array [..., n] that is quantised, with one scale for each last axis."""

    kind = "keys"

    def pack_keys(self, x: Any) -> Any:
        self.kind = "keys"
        return super().pack_keys(x)

    def pack_values(self, x: Any) -> Any:
        self.kind = "values"
        return super().pack_values(x)

    def round_trip(self, x: Any) -> Any:
        self.decoder.recorded.append((self.layer, self.kind, x))  # type: ignore[attr-defined]
        return super().round_trip(x)


class RecordingDecoder(Decoder):
    """The independent decoder, recording (layer, "keys" or "values", array) of what it quantises."""

    caches = POLICIES | {"int8": RecordingRows}

    def new_rows(self) -> list[Rows]:
        self.recorded: list[tuple[int, str, Any]] = []
        return super().new_rows()


def quantised_arrays(reference: Reference, text: Chunks) -> Iterator[tuple[int, str, Any]]:
    """Every (layer, "keys" or "values", array) that is quantised while a text is fed, in order."""
    decoder = RecordingDecoder(reference.config, reference.weights, reference.policy)
    for chunk in text:
        decoder.forward(chunk)
        yield from decoder.recorded
        decoder.recorded.clear()


def model_rows(reference: Reference, text: Chunks, dtype: str) -> dict[tuple[int, str], Any]:
    """The keys and values [G, S, K] of each layer without quantisation, of kvsim's own model in `dtype`."""
    model = reference.model(dtype)
    cache = model.new_cache("dynamic")
    for chunk in text:
        model(chunk, cache)
    held = [(i, "keys", layer.keys) for i, layer in enumerate(cache.layers)]
    held += [(i, "values", layer.values) for i, layer in enumerate(cache.layers)]
    return {(i, kind): np.asarray(x, np.float64) for i, kind, x in held}


def emulated_rows(reference: Reference, text: Chunks, dtype: str) -> dict[tuple[int, str], Any]:
    """The same of the independent decoder, with the result of every step rounded to `dtype`."""
    keep = rounding(dtype)
    decoder = Decoder(reference.config, map_arrays(reference.weights, keep), "dynamic", keep)
    for chunk in text:
        decoder.forward(chunk)
    held = [(i, "keys", rows.keys) for i, rows in enumerate(decoder.rows)]
    held += [(i, "values", rows.values) for i, rows in enumerate(decoder.rows)]
    return {(i, kind): np.stack(x, axis=1) for i, kind, x in held}


def moved_by_rounding(reference: Reference, text: Chunks, dtype: str) -> Margins:
    """How far rounding in `dtype` may move the numbers that are quantised: twice the reference's own error."""
    right = model_rows(reference, text, "float64")
    runs = [model_rows(reference, text, dtype), emulated_rows(reference, text, dtype)]
    return {label: 2 * max(max_abs(run[label] - x) for run in runs) for label, x in right.items()}


def clearance(x: Any) -> float:
    """How far the numbers x [..., n], with one scale for each last axis, may move before a code or a scale changes: the
    smallest such distance in x, less the rounding of float32, in which they are quantised. Inf if all are zeros."""
    eps = FORMATS["float32"].eps
    top = np.abs(x).max(axis=-1, keepdims=True)
    kept = (top / 127).astype(np.float16)
    edges = [(kept.astype(np.float64) + np.nextafter(kept, np.float16(to))) / 2 for to in (-np.inf, np.inf)]
    to_scale = 127 * np.minimum(top / 127 - edges[0], edges[1] - top / 127) - eps * top
    used = np.where(kept == 0, 1.0, kept.astype(np.float64))
    to_code = used * (0.5 - np.abs(x / used - np.rint(x / used))) - eps * np.abs(x)
    return float(np.where(top > 0, np.minimum(to_code, to_scale), np.inf).min())


def choose_text(reference: Reference, feed: Feed, number: int, seed: int, margins: Margins) -> Chunks:
    """The text of feed `number`; where there are margins, the first of many on which all quantised numbers are further
    from rounding boundaries than these. UsageError: none of DRAWS texts is."""
    draw = 0
    if margins:
        key = (fingerprint(reference.weights), repr(reference.config), reference.policy, feed, number, seed, DRAWS,
               tuple(margins.items()))  # fmt: skip
        draw = int(KNOWN.get(key, lambda: [np.array(_find_draw(reference, feed, number, seed, margins))])[0])
    return make_text(feed, number + STRIDE * draw, reference.config.vocab_size, seed)


def _find_draw(reference: Reference, feed: Feed, number: int, seed: int, margins: Margins) -> int:
    """The index of the first text that keeps its margins."""
    for draw in range(DRAWS):
        text = make_text(feed, number + STRIDE * draw, reference.config.vocab_size, seed)
        if all(clearance(x) > margins[i, kind] for i, kind, x in quantised_arrays(reference, text)):
            return draw
    raise UsageError(
        "in each of the {count} texts that were tried some number stands so near a rounding boundary of {policy} that"
        ' correct decoders differ: give a smaller reference, pass dtype="float64" if the decoder computes in it, or use'
        " assert_close_to and assert_quantiser",
        count=DRAWS,
        policy=reference.policy,
    )


def measure_margins(reference: Reference, feed: Feed, dtype: str, seed: int) -> Margins:
    """The margins for `choose_text` under the reference's policy, measured on one text; empty if it needs none.

    UsageError: the policy quantises, but nothing within `feed`, so that nothing would be checked.
    """
    if not reference.covered or read_policy(reference.policy)[0] != "int8":
        return {}
    text = make_text(feed, 0, reference.config.vocab_size, seed)
    if not any(True for _ in quantised_arrays(reference, text)):
        raise UsageError(
            "under {policy} nothing is quantised in {count} tokens, and so nothing would be checked: use a smaller"
            ' group and residual, as in "int8:group=2,residual=1"',
            policy=reference.policy,
            count=sum(feed),
        )
    return moved_by_rounding(reference, text, dtype) if dtype in FINE else {}
