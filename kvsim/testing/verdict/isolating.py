"""What an unknown mistake must be confined to: the one layer that does not give what it should of its own input, and
the rows that a query must have seen."""

from itertools import combinations
from typing import Any

import numpy as np

from kvsim.testing.feeds.feeding import Check, Compared
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import UnreadableError
from kvsim.testing.verdict.diagnosing import Vote
from kvsim.testing.verdict.failure import SeenRows
from kvsim.testing.verdict.layers import LayersKept, see_layers
from kvsim.weights import Layer, list_arrays

MOST_ROWS = 7  # of which every subset is tried
LARGE = 2**20  # numbers in the weights of a model: of larger ones no subsets are tried


class FromGiven(LayersKept):
    """Each layer gets the output that the code under test gave for the layer before it."""

    given: list[Any]  # [T, D] of each visible layer

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        made = super().block(layer, w, x, start)
        return list(self.given[layer][start : start + len(x)]) if layer < len(self.given) else made


def find_layer_at_fault(check: Check, compared: Compared) -> int | None:
    """The one visible layer whose output is wrong although its input is taken as right; None if it is none, or several,
    or if what comes after the visible layers is wrong, too."""
    if check.more.layers is None or not check.reference.covered:
        return None
    try:
        seen = see_layers(check, compared, check.more.layers)
    except UnreadableError:
        return None
    reference = check.reference
    decoder = FromGiven(reference.config, reference.weights, reference.policy)
    decoder.given = seen.got
    with np.errstate(all="ignore"):
        logits = np.concatenate([decoder.forward(chunk) for chunk in compared.text])
    wrong = [
        layer for layer, (made, got, allowed) in enumerate(zip(decoder.layers(), seen.got, seen.allowed, strict=False))
        if not (np.abs(made - got) <= allowed.value).all()
    ]  # fmt: skip
    tail = (np.abs(logits - compared.given.logits) <= 2 * check.allowed.value).all()
    return wrong[0] if len(wrong) == 1 and tail else None


class SeesOnly(Decoder):
    """The query at `position` sees the rows `sees` alone."""

    position = -1
    sees: tuple[int, ...] = ()

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        seen = super().visible(inputs, t)
        if inputs.query_pos[t] != self.position:
            return seen
        return np.isin(inputs.key_pos, self.sees)


def find_seen_rows(check: Check, votes: list[Vote]) -> SeenRows | None:
    """The only set of rows that explains the first wrong row of a short feed; None if none does, or several."""
    reference = check.reference
    windows = {kind.window for kind in reference.config.layers}
    plain = reference.covered and reference.policy == "dynamic" and len(windows) == 1
    if not plain or sum(x.size for x in list_arrays(reference.weights)) > LARGE:
        return None
    failing = [(c, v) for c, v in zip(check.done, votes, strict=True) if v.fails and v.tells]
    short = [(sum(v.steps[v.wrong_step]), c, v) for c, v in failing if sum(v.steps[v.wrong_step]) <= MOST_ROWS]
    if not short:
        return None
    end, compared, vote = min(short, key=lambda one: one[0])
    decoder = SeesOnly(reference.config, reference.weights)
    for chunk in compared.text[: vote.wrong_step]:
        decoder.forward(chunk)
    row, (start, _), window = vote.wrong_row, vote.steps[vote.wrong_step], windows.pop()
    expected = [p for p in range(row + 1) if window is None or p > row - window]
    found = []
    for rows in (rows for size in range(1, end + 1) for rows in combinations(range(end), size)):
        one: Any = decoder.fork()
        one.position, one.sees = row, rows
        with np.errstate(all="ignore"):
            made = one.forward(compared.text[vote.wrong_step])[row - start]
        if (np.abs(made - vote.got[row]) <= 2 * vote.allowed).all():
            found.append(list(rows))
    return SeenRows(compared.feed[: vote.wrong_step + 1], row, found[0], expected) if len(found) == 1 else None
