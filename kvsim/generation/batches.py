"""Several prompts through the same steps: linear layers multiply the rows of all sequences at once, attention one
sequence at a time, nothing is padded. A sequence leaves when it has reached its stop, and another may join.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field

from kvsim.caches.cache import Cache
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError, shortened
from kvsim.generation.runs import Prompt, Run, Step, check_room, join_text, plan_stops
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stopping
from kvsim.model import Logits, Model


@dataclass
class Sequence:
    """One prompt and what has come of it."""

    prompt: Prompt
    ids: list[int]
    cache: Cache
    stops: list[int]  # how many tokens it has read after each step
    n_prompt: int
    fed: int = 0
    new: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    done: bool = False

    @property
    def next_stop(self) -> int:
        """How many tokens it will have read after its next step."""
        return self.stops[len(self.steps)]

    def to_run(self, model: Model) -> Run:
        ids = [*self.ids[: self.n_prompt], *self.new]
        return Run(ids, self.new, join_text(model, self.prompt, ids, self.new), self.steps, self.ledger, self.cache)


def generate_together(
    model: Model, prompts: list[tuple[Prompt, list[int]]], max_new_tokens: int, spec: str, feed: str,
    stopping: Stopping, keep_logits: bool, count: bool, logits: Logits, sampler: Sampler, at_once: int | None = None,
) -> list[Run]:  # fmt: skip
    """A run for each prompt (as given, and its ids), at most `at_once` at a time: when one leaves, the next joins. The
    events of a step are those of the whole batch."""
    if at_once is not None and (isinstance(at_once, bool) or not hasattr(at_once, "__index__") or at_once < 1):
        raise UsageError("at_once must be a whole number of at least 1, got {got}", got=shortened(at_once))
    sequences = []
    for prompt, ids in prompts:
        cache = model.new_cache(spec)
        check_room(model, [cache], len(ids), max_new_tokens)
        sequences.append(Sequence(prompt, list(ids), cache, plan_stops(len(ids), max_new_tokens, feed), len(ids)))
    while active := [s for s in sequences if not s.done][:at_once]:
        with model.ops.count() if count else nullcontext(Ledger()) as ledger:
            out = model.batch([(s.ids[s.cache.seen : s.next_stop], s.cache) for s in active], logits=logits)
        for s, logits_TV in zip(active, out, strict=True):
            last, stop = logits_TV[-1, :], s.next_stop
            chosen = sampler.choose(model.ops, last, stop)
            kept = last if keep_logits else None
            s.steps.append(Step(len(s.steps) + 1, tuple(s.ids[s.fed : stop]), chosen, tuple(ledger.events), kept))
            s.ledger.events += ledger.events
            s.fed = stop
            if stop == len(s.ids):
                s.ids.append(chosen)
            if stop >= s.n_prompt:
                s.new.append(chosen)
            s.done = len(s.steps) == len(s.stops) or (bool(s.new) and stopping.reached(s.new))
    return [s.to_run(model) for s in sequences]
