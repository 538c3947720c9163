"""Several prompts through the same steps: linear layers multiply the rows of all sequences at once, attention one
sequence at a time, nothing is padded. A sequence leaves when it has reached its stop.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field

from kvsim.caches.cache import Cache
from kvsim.counting.ledger import Ledger
from kvsim.generation import Prompt, Run, Step, check_room, join_text, plan_stops
from kvsim.model import Logits, Model
from kvsim.sampling import Sampler
from kvsim.stopping import Stopping


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


def generate_together(
    model: Model, prompts: list[tuple[Prompt, list[int]]], max_new_tokens: int, spec: str, feed: str,
    stopping: Stopping, keep_logits: bool, count: bool, logits: Logits, sampler: Sampler,
) -> list[Run]:  # fmt: skip
    """A run for each prompt (as given, and its ids). The events of a step are those of the whole batch."""
    sequences = []
    for prompt, ids in prompts:
        cache = model.new_cache(spec)
        check_room(model, [cache], len(ids), max_new_tokens)
        sequences.append(Sequence(prompt, list(ids), cache, plan_stops(len(ids), max_new_tokens, feed), len(ids)))
    for number in range(max(len(s.stops) for s in sequences)):
        active = [s for s in sequences if number < len(s.stops) and not s.done]
        if not active:
            break
        with model.count() if count else nullcontext(Ledger()) as ledger:
            out = model.batch([(s.ids[s.cache.seen : s.stops[number]], s.cache) for s in active], logits=logits)
        for s, logits_TV in zip(active, out, strict=True):
            last, stop = logits_TV[-1, :], s.stops[number]
            chosen = sampler.choose(model.ops, last, stop)
            kept = last if keep_logits else None
            s.steps.append(Step(number + 1, tuple(s.ids[s.fed : stop]), chosen, tuple(ledger.events), kept))
            s.ledger.events += ledger.events
            s.fed = stop
            if stop == len(s.ids):
                s.ids.append(chosen)
            if stop >= s.n_prompt:
                s.new.append(chosen)
                s.done = stopping.reached(s.new)
    return [
        Run(
            [*s.ids[: s.n_prompt], *s.new],
            s.new,
            join_text(model, s.prompt, [*s.ids[: s.n_prompt], *s.new], s.new),
            s.steps,
            s.ledger,
            s.cache,
        )
        for s in sequences
    ]
