"""The answer of `kvsim.trace`: the numbers of two runs of one generation, and their JSON."""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from kvsim.comparisons.agreement_record import Agreement, show_agreement
from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_values import LayerAttention, LeftOut, TraceValues
from kvsim.counting.events import MatMul
from kvsim.schemas import dump, stamp
from kvsim.schemas.display import mimebundle
from kvsim.text import Piece, find_unknown, join_pieces, one_line, show_text


@dataclass(frozen=True)
class Side:
    """One run's part of a step."""

    counts: Counts
    kv_tokens: int  # tokens that the cache has seen
    kv_bytes: int  # bytes of the rows that the cache holds after the step
    allocated_bytes: int  # bytes of the arrays allocated for them
    events: tuple[MatMul, ...]

    def __repr__(self) -> str:
        return one_line(f"<Side {self.counts}, {self.kv_tokens:,} tokens cached in {self.kv_bytes:,} B>")


@dataclass(frozen=True)
class TraceStep:
    """One step of both runs."""

    number: int  # from 1
    fed: tuple[Piece, ...]  # the tokens that the step adds
    next: Piece  # the uncached run's choice, which both runs are fed after the prompt
    no_cache: Side
    cached: Side
    agreement: Agreement  # of both runs' logits, over every position that both computed

    def __repr__(self) -> str:
        fed = show_text(join_pieces(piece.text for piece in self.fed), [])
        macs = f"{self.no_cache.counts.macs:,} and {self.cached.counts.macs:,} MACs"
        next = show_text(self.next.text, [])
        return one_line(f"<TraceStep {self.number}: fed {fed}, next {next}, {macs}, {show_agreement(self.agrees)}>")

    @property
    def max_abs_diff(self) -> float:
        """The largest |difference| of a logit between the runs."""
        return self.agreement.difference

    @property
    def allowed_diff(self) -> float:
        """The difference that rounding explains; 0 where every sum adds in one order, so that nothing may differ."""
        return self.agreement.allowed

    @property
    def identical(self) -> bool:
        """Are the logits equal bit for bit?"""
        return self.agreement.identical

    @property
    def agrees(self) -> bool:
        """Is the difference rounding, or nothing where nothing is allowed?"""
        return self.agreement.agrees


class Totals(NamedTuple):
    """Sums over steps, one for each run."""

    no_cache: Counts
    cached: Counts

    def __repr__(self) -> str:
        return one_line(f"<Totals {self.no_cache}; cached {self.cached}>")


@dataclass(frozen=True)
class Trace:
    """One generation run twice over the same tokens, without a cache and with one."""

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
    fixed_order: bool = False  # True: the backend adds in one order, so that nothing may differ
    by_length: str | None = None  # the kind of rotary positions whose frequencies depend on the length, if any
    windows: tuple[int | None, ...] = ()  # of each layer; None: it attends to all earlier tokens
    attention: tuple[LayerAttention, ...] = ()  # of each layer
    values: TraceValues | None = field(default=None, compare=False)  # what attention computed, with `values=True`
    values_left_out: LeftOut | None = None  # why not, although asked for: more than MAX_TOKENS, or than MAX_NUMBERS

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        text = show_text(join_pieces(piece.text for piece in (*self.prompt, *self.new)), [])
        totals = self.totals
        cells = f"{totals.no_cache.score_cells:,} and {totals.cached.score_cells:,} score cells"
        what = f"{self.model['name']}, caches none and {self.cache}, steps {len(self.steps):,}"
        return one_line(f"<kvsim.Trace {text}: {what}, {cells}, {show_agreement(self.agrees)}>")

    @property
    def fed(self) -> tuple[Piece, ...]:
        """The tokens that were fed: all but the last new one, which is only chosen."""
        return tuple(piece for step in self.steps for piece in step.fed)

    @property
    def unknown(self) -> list[str]:
        """Pieces of the prompt that are not in the vocabulary, each once."""
        return find_unknown(self.prompt)

    @property
    def totals(self) -> Totals:
        """The sums of all steps."""
        return Totals(
            Counts.sum(step.no_cache.counts for step in self.steps),
            Counts.sum(step.cached.counts for step in self.steps),
        )

    @property
    def as_prefill(self) -> Totals | None:
        """The totals under `feed="prefill"`, derived from this trace's own counts; None if this is that feed.

        The step that ends the prompt computes, without a cache, exactly what a prefill into an empty cache does; from
        there on the two feeds take the same steps.
        """
        stops = list(accumulate(len(step.fed) for step in self.steps))
        end = stops.index(len(self.prompt))
        if end == 0:
            return None
        no_cache = [step.no_cache.counts for step in self.steps[end:]]
        later = [step.cached.counts for step in self.steps[end + 1 :]]
        return Totals(Counts.sum(no_cache), Counts.sum([no_cache[0], *later]))

    @property
    def widest(self) -> TraceStep:
        """The step with the largest difference, among steps beyond their allowance if any; the first of a tie."""
        wrong = [step for step in self.steps if not step.agrees]
        return max(wrong or self.steps, key=lambda step: step.max_abs_diff)

    @property
    def max_abs_diff(self) -> float:
        """The difference of the widest step."""
        return self.widest.max_abs_diff

    @property
    def allowed_diff(self) -> float:
        """The allowance of the widest step."""
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
        """Do the runs differ because cached keys keep the rotary frequencies of the length at which they were cached,
        while the uncached run rotates all keys by those of the current length?"""
        return self.by_length is not None and not self.agrees

    def to_dict(self) -> dict[str, Any]:
        """The trace as `kvsim.trace/1` (see `kvsim schema trace`): plain numbers, strings and lists."""
        as_prefill = self.as_prefill
        return {
            **stamp("trace"),
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
        """`to_dict` as JSON text: UTF-8 characters unescaped, integers exact."""
        return dump(self.to_dict())


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
