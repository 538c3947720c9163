"""The cells of one step: which scores, keys and values each run computes, masks, or reads from the cache.

Everything is read from the products that ran, of one head of one layer; views only draw it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.counting.events import MatMul
from kvsim.errors import UsageError

# The state of a cell, as the letter that marks it.
COMPUTED, MASKED, CACHED, NEW_KEY, NEW_VALUE = "#", "x", "c", "K", "V"
ABSENT = " "  # a row or column that the step does not touch
# Where rows of keys and values are made. Latent attention expands its latent rows, or multiplies with them directly.
SITES = {NEW_KEY: ("key", "expand", "latent"), NEW_VALUE: ("value", "expand", "latent")}


class Cells(NamedTuple):
    """One run's cells of a step, one state (a letter) for each token read so far."""

    scores: tuple[str, ...]  # QKᵀ: a row for each query of the step, the last ones of all tokens
    keys: str
    values: str
    size: tuple[int, int]  # rows and columns of the product QKᵀ that ran

    @property
    def first_row(self) -> int:
        """The position of the first query of the step: rows before it are not computed."""
        return len(self.keys) - len(self.scores)


def find_step(trace: Trace, number: int | None) -> TraceStep:
    """Step `number` of the trace, counted from 1; the last one by default. UsageError: there is no such step."""
    if number is None:
        return trace.steps[-1]
    if not 1 <= number <= len(trace.steps):
        raise UsageError(
            "there is no step {number}: this trace has steps 1 to {last}", number=number, last=len(trace.steps)
        )
    return trace.steps[number - 1]


def count_read(trace: Trace, step: TraceStep) -> int:
    """The number of tokens fed up to and in this step."""
    return sum(len(earlier.fed) for earlier in trace.steps[: step.number])


def find_cells(trace: Trace, step: TraceStep, side: Side, layer: int = 0) -> Cells:
    """The cells of one run, `step.no_cache` or `step.cached`, in one layer."""
    tokens = count_read(trace, step)
    scores = _find(side, layer, ("scores",))
    first_column = tokens - scores.n  # a cache of a layer with a window holds the newest rows only
    window = (trace.windows[layer] if trace.windows else None) or tokens
    rows = tuple(_score_row(query, first_column, tokens, window) for query in range(tokens - scores.m, tokens))
    keys, values = (
        _kept_row(letter, tokens, first_column, _find(side, layer, sites).m) for letter, sites in SITES.items()
    )
    return Cells(rows, keys, values, (scores.m, scores.n))


def _find(side: Side, layer: int, kinds: Sequence[str]) -> MatMul:
    """The product of the first of `kinds` that ran in the layer."""
    sites = {event.site: event for event in side.events}
    return next(sites[site] for kind in kinds if (site := f"layers.{layer}.{kind}") in sites)


def _score_row(query: int, first_column: int, tokens: int, window: int) -> str:
    """One row of QKᵀ: computed where the key is one of the `window` up to the query, otherwise masked."""
    admitted = (COMPUTED if query - window < key <= query else MASKED for key in range(first_column, tokens))
    return ABSENT * first_column + "".join(admitted)


def _kept_row(letter: str, tokens: int, first_column: int, computed: int) -> str:
    """The row of K or V: `letter` for the last `computed` tokens, cached for the columns before them."""
    return ABSENT * first_column + CACHED * (tokens - first_column - computed) + letter * computed
