"""What a trace is: numbers read from two runs of one generation, and their JSON.

`kvsim.comparisons.trace` makes traces, `kvsim.views` shows them; here is what passes between.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from kvsim import __version__
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.text import Piece, find_unknown

SCHEMA = "kvsim.trace/1"


class Counts(NamedTuple):
    """What one run executed: cells and rows for one head of one layer, the rest for the whole model."""

    score_cells: int
    useful_cells: int
    projected_rows: int
    macs: int
    useful_macs: int
    flops: int

    @classmethod
    def of(cls, ledger: Ledger) -> "Counts":
        return cls(
            ledger.score_cells(),
            ledger.useful_cells(),
            ledger.projected_rows(),
            ledger.macs,
            ledger.useful_macs,
            ledger.flops,
        )

    @classmethod
    def sum(cls, counts: Iterable["Counts"]) -> "Counts":
        rows = list(counts)
        return cls(*(sum(column) for column in zip(*rows, strict=True))) if rows else cls(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Side:
    """One run's part of a step."""

    counts: Counts
    kv_tokens: int  # tokens that the cache has seen
    kv_bytes: int  # rows that the cache holds after the step
    allocated_bytes: int  # arrays that hold them
    events: tuple[MatMul, ...]


@dataclass(frozen=True)
class TraceStep:
    """One step of both runs."""

    number: int  # from 1
    fed: tuple[Piece, ...]  # the tokens that the step adds
    next: Piece  # the uncached run's choice: what both runs are fed where the prompt has ended
    no_cache: Side
    cached: Side
    max_abs_diff: float  # between both runs' logits, over every position that both computed
    allowed_diff: float  # 0 where every sum adds in one order: nothing may differ
    identical: bool  # are the logits equal bit for bit?

    @property
    def agrees(self) -> bool:
        """Is the difference rounding, or nothing where nothing is allowed?"""
        return self.max_abs_diff <= self.allowed_diff if self.allowed_diff else self.identical


class Totals(NamedTuple):
    no_cache: Counts
    cached: Counts


@dataclass(frozen=True)
class Trace:
    """A generation, told by its numbers."""

    text: str | None  # the prompt as it was given; None for ids
    prompt: tuple[Piece, ...]
    new: tuple[Piece, ...]
    feed: str
    cache: str
    model: dict[str, Any]  # name, layers, heads, kv_heads, d_head
    backend: str
    dtype: str
    item_bytes: int
    steps: tuple[TraceStep, ...]
    fixed_order: bool = False  # does the backend add in one order, so that nothing may differ?
    by_length: str | None = None  # the kind of positions whose frequencies depend on the length, if so

    @property
    def fed(self) -> tuple[Piece, ...]:
        """Every token that was fed: the last new one is chosen but never fed."""
        return tuple(piece for step in self.steps for piece in step.fed)

    @property
    def unknown(self) -> list[str]:
        """Pieces of the prompt that the model has never seen, each once."""
        return find_unknown(self.prompt)

    @property
    def totals(self) -> Totals:
        """All steps of each run."""
        return Totals(
            Counts.sum(step.no_cache.counts for step in self.steps),
            Counts.sum(step.cached.counts for step in self.steps),
        )

    @property
    def as_prefill(self) -> Totals | None:
        """What `feed="prefill"` executes, read from this run's own events; None if this is that feed.

        The step that ends the prompt computes, without a cache, just what a prefill into an empty
        cache does; from there on the two feeds take the same steps.
        """
        read = list(accumulate(len(step.fed) for step in self.steps))
        end = read.index(len(self.prompt))
        if end == 0:
            return None
        no_cache = [step.no_cache.counts for step in self.steps[end:]]
        later = [step.cached.counts for step in self.steps[end + 1 :]]
        return Totals(Counts.sum(no_cache), Counts.sum([no_cache[0], *later]))

    @property
    def widest(self) -> TraceStep:
        """The step whose two runs differ most; where some differ by more than is allowed, of those."""
        wrong = [step for step in self.steps if not step.agrees]
        return max(wrong or self.steps, key=lambda step: step.max_abs_diff)

    @property
    def max_abs_diff(self) -> float:
        """The difference of the widest step."""
        return self.widest.max_abs_diff

    @property
    def allowed_diff(self) -> float:
        """What that same step was allowed."""
        return self.widest.allowed_diff

    @property
    def identical(self) -> bool:
        """Are both runs' logits equal bit for bit at every step?"""
        return all(step.identical for step in self.steps)

    @property
    def agrees(self) -> bool:
        """Is every step's difference within its allowance?"""
        return all(step.agrees for step in self.steps)

    @property
    def differs_by_design(self) -> bool:
        """Do the runs differ because cached keys keep the frequencies of the length at which they arrived,
        and the uncached run turns all keys by those of the present length?"""
        return self.by_length is not None and not self.agrees

    def to_dict(self) -> dict[str, Any]:
        """The trace as `kvsim.trace/1` (see `kvsim schema trace`): plain numbers, strings and lists."""
        as_prefill = self.as_prefill
        return {
            "schema": SCHEMA,
            "kvsim": __version__,
            "text": self.text,
            "fed": [piece.text for piece in self.fed],
            "fed_ids": [piece.id for piece in self.fed],
            "feed": [len(step.fed) for step in self.steps],
            "new": [piece.text for piece in self.new],
            "new_ids": [piece.id for piece in self.new],
            "unknown": self.unknown,
            "model": self.model,
            "cache": self.cache,
            "backend": self.backend,
            "dtype": self.dtype,
            "steps": [_step_dict(step) for step in self.steps],
            "totals": _totals_dict(self.totals),
            "as_prefill": None if as_prefill is None else _totals_dict(as_prefill),
            "max_abs_diff": self.max_abs_diff,
            "allowed_diff": self.allowed_diff,
            "agrees": self.agrees,
            "identical": self.identical,
            "differs_by_design": self.differs_by_design,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text, UTF-8 characters as they are, integers exact."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def _side_dict(side: Side) -> dict[str, int]:
    return {**side.counts._asdict(), "kv_bytes": side.kv_bytes, "allocated_bytes": side.allocated_bytes}


def _totals_dict(totals: Totals) -> dict[str, dict[str, int]]:
    return {"no_cache": totals.no_cache._asdict(), "cached": totals.cached._asdict()}


def _step_dict(step: TraceStep) -> dict[str, Any]:
    return {
        "step": step.number,
        "fed": [piece.text for piece in step.fed],
        "fed_ids": [piece.id for piece in step.fed],
        "next": step.next.text,
        "next_id": step.next.id,
        "no_cache": _side_dict(step.no_cache),
        "cached": _side_dict(step.cached),
        "max_abs_diff": step.max_abs_diff,
        "allowed_diff": step.allowed_diff,
        "identical": step.identical,
    }
