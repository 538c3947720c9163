"""The answer of `kvsim.compare`: the numbers of several caches' runs over the same tokens, and their JSON."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from kvsim.comparisons.counts import Counts
from kvsim.schemas import dump, stamp
from kvsim.schemas.display import mimebundle
from kvsim.text import Piece, find_unknown, one_line, show_text

LeftOut = Literal["rows", "untold"]  # too many rows; a policy that does not tell which rows it holds


class Row(NamedTuple):
    """One position of one run, compared with the reference."""

    difference: float  # largest |difference| of a logit
    divergence: float  # KL(reference || run), in nats
    choice: int  # the likeliest next id
    same: bool  # is it the reference's?


class Closeness(NamedTuple):
    """Some positions of one run, summarised."""

    positions: int
    same_choices: int  # positions with the reference's choice
    mean_divergence: float  # KL(reference || run), in nats
    largest_divergence: float
    max_abs_diff: float

    @classmethod
    def of(cls, rows: tuple[Row, ...]) -> "Closeness":
        """The summary of `rows`, at least one."""
        divergences = [row.divergence for row in rows]
        return cls(
            len(rows),
            sum(row.same for row in rows),
            math.fsum(divergences) / len(rows),
            max(divergences),
            max(row.difference for row in rows),
        )


class PolicyStep(NamedTuple):
    """One step of one cache."""

    counts: Counts
    logical_bytes: int  # after the step
    allocated_bytes: int
    metadata_bytes: int


@dataclass(frozen=True)
class History:
    """Every step of a run, and the fate of every row. A row that has left a cache never returns, so one number a row
    says after which steps it was held."""

    steps: tuple[PolicyStep, ...]
    # [layers][heads of the cache][tokens]: the step, from 1, after which the row is no longer held; 0: held to the end.
    # A row that is not even held after the step that fed it has that step.
    evicted: tuple[tuple[tuple[int, ...], ...], ...] | None
    left_out: LeftOut | None = None  # why `evicted` is None

    def __repr__(self) -> str:
        return f"<History of {len(self.steps):,} steps>"


@dataclass(frozen=True)
class PolicyRun:
    """One cache's run over the tokens."""

    cache: str
    lossless: bool
    logical_bytes: int  # bytes of the rows held at the end
    allocated_bytes: int  # bytes of the arrays allocated for them
    metadata_bytes: int  # bytes beside the rows: scales, positions, block tables
    counts: Counts  # of all steps
    rows: tuple[Row, ...] = ()  # one for each position; none for the reference
    agrees: bool = True  # is the difference of every step within what rounding explains?
    history: History | None = None  # of every step, if it was asked for

    def __repr__(self) -> str:
        kind = "lossless" if self.lossless else "lossy"
        held = f"{self.logical_bytes:,} B, {self.counts.macs:,} MACs, positions compared {len(self.rows):,}"
        return one_line(f"<PolicyRun {self.cache}, {kind}: {held}>")

    @property
    def first_change(self) -> int | None:
        """The position in the text, from 0, of the first token that this run would choose differently, or None."""
        return next((i + 1 for i, row in enumerate(self.rows) if not row.same), None)


@dataclass(frozen=True)
class PolicyComparison:
    """Several caches, and the reference that they are compared with."""

    text: str | None  # the prompt as it was given; None for ids
    prompt: tuple[Piece, ...]
    new: tuple[Piece, ...]  # the reference's choices
    feed: str
    model: dict[str, Any]  # name, layers, heads, kv_heads, d_head
    backend: str
    dtype: str
    reference: PolicyRun
    runs: tuple[PolicyRun, ...]
    largest_logit: float  # max|logit| of the reference, over every position
    by_length: str | None = None  # the kind of rotary positions whose frequencies depend on the length, if any
    stops: tuple[int, ...] = ()  # tokens read after each step
    choices: tuple[Piece, ...] = ()  # the ids that some cache chose, each once, if the history was asked for

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        text = show_text("".join(piece.text for piece in (*self.prompt, *self.new)), [])
        caches = ", ".join(run.cache for run in self.runs) or "none"
        what = f"{self.model['name']}, reference {self.reference.cache}, compared with it: {caches}"
        return one_line(f"<kvsim.PolicyComparison {text}: {what}>")

    @property
    def unknown(self) -> list[str]:
        """Pieces of the prompt that are not in the vocabulary, each once."""
        return find_unknown(self.prompt)

    def all_of(self, run: PolicyRun) -> Closeness:
        """The closeness over every position that was fed."""
        return Closeness.of(run.rows)

    def new_of(self, run: PolicyRun) -> Closeness:
        """The closeness over the positions that choose new tokens: the prompt's last one and those after it."""
        return Closeness.of(run.rows[len(self.prompt) - 1 :])

    def relative(self, difference: float) -> float:
        """A difference divided by max|logit|; unchanged if all logits are zero."""
        return difference / (self.largest_logit or 1.0)

    @property
    def agrees(self) -> bool:
        """Is the difference of every lossless cache rounding, or by design (`by_length`)?"""
        return self.by_length is not None or all(run.agrees for run in self.runs if run.lossless)

    def to_dict(self) -> dict[str, Any]:
        """As `kvsim.compare/1` (see `kvsim schema compare`)."""
        return {
            **stamp("compare"),
            "text": self.text,
            "prompt_ids": [piece.id for piece in self.prompt],
            "new": [piece.text for piece in self.new],
            "new_ids": [piece.id for piece in self.new],
            "unknown": self.unknown,
            "feed": self.feed,
            "model": self.model,
            "backend": self.backend,
            "dtype": self.dtype,
            "largest_logit": self.largest_logit,
            "reference": _cost_dict(self.reference),
            "policies": [self._run_dict(run) for run in self.runs],
            "by_length": self.by_length,
            "agrees": self.agrees,
        }

    def _run_dict(self, run: PolicyRun) -> dict[str, Any]:
        return {
            **_cost_dict(run),
            "all": self._closeness_dict(self.all_of(run)),
            "new": self._closeness_dict(self.new_of(run)),
            "first_change": run.first_change,
            "agrees": run.agrees if run.lossless else None,
            "rows": [row._asdict() for row in run.rows],
        }

    def _closeness_dict(self, closeness: Closeness) -> dict[str, Any]:
        return {**closeness._asdict(), "relative_diff": self.relative(closeness.max_abs_diff)}

    def to_json(self) -> str:
        """`to_dict` as JSON text: UTF-8 characters unescaped, integers exact."""
        return dump(self.to_dict())


def _cost_dict(run: PolicyRun) -> dict[str, Any]:
    return {
        "cache": run.cache,
        "lossless": run.lossless,
        "logical_bytes": run.logical_bytes,
        "allocated_bytes": run.allocated_bytes,
        "metadata_bytes": run.metadata_bytes,
        "counts": run.counts._asdict(),
    }
