"""What `generate` answers with: a run, its steps, its beams."""

from dataclasses import dataclass
from typing import NamedTuple

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger, total
from kvsim.schemas.display import mimebundle
from kvsim.text import one_line, show_text


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    number: int  # from 1
    fed: tuple[int, ...]  # the ids that this step adds to the text the model has read
    next: int  # the model's own choice of the next id, also while the prompt is fed
    events: tuple[MatMul, ...]  # every matrix product of the step
    logits: Array | None = None  # [V] at the last position, with keep_logits=True

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        work = f"{len(self.events):,} products, {total(self.events).macs:,} MACs"
        return one_line(f"<kvsim.Step {self.number}: fed {show_text(None, self.fed)}, next {self.next}, {work}>")


class Beam(NamedTuple):
    """One of several continuations."""

    new_ids: list[int]
    text: str | None  # prompt and new; None for a model without a tokenizer
    score: float  # sum of the new tokens' log-probabilities, in nats

    def __repr__(self) -> str:
        return f"<Beam {show_text(self.text, self.new_ids)}: new tokens {len(self.new_ids):,}, score {self.score:.6g}>"


@dataclass(frozen=True)
class Run:
    """A prompt and its continuation, with every step that led there."""

    ids: list[int]  # prompt and new
    new_ids: list[int]
    text: str | None  # prompt and new; None for a model without a tokenizer
    steps: list[Step]
    ledger: Ledger  # the products of all steps
    cache: Cache
    beams: tuple[Beam, ...] = ()  # best first, with beams=N
    drafted: int = 0  # tokens that the drafter guessed, with draft=...
    accepted: int = 0  # of these, tokens that the model chose itself

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        size = f"new tokens {len(self.new_ids):,}, steps {len(self.steps):,}, {self.ledger.macs:,} MACs"
        return one_line(f"<kvsim.Run {show_text(self.text, self.ids)}: {size}, cache {self.cache.spec}>")


def sum_ledger(steps: list[Step]) -> Ledger:
    """A ledger of the products of all steps, in order."""
    return Ledger(event for step in steps for event in step.events)
