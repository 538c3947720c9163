"""Prompts that take their steps together: linear layers multiply the rows of all sequences at once, attention one
sequence at a time, and nothing is padded. A sequence leaves when it has stopped, and the next one joins.
"""

from dataclasses import dataclass, field

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.generation.options import GenerationOptions, count_if
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import Prompt, Start, join_text, start_run
from kvsim.generation.runs import Run, Step, sum_ledger
from kvsim.generation.stopping import Stopping
from kvsim.model import Logits, Model


@dataclass
class Sequence:
    """One prompt and its continuation so far."""

    prompt: Prompt
    start: Start
    cache: Cache
    stops: list[int]  # tokens read after each step
    ids: list[int]  # prompt and new
    fed: int = 0  # tokens fed so far
    steps: list[Step] = field(default_factory=list)
    done: bool = False

    @property
    def stop(self) -> int:
        """The number of tokens that the model will have read after the next step."""
        return self.stops[len(self.steps)]

    @property
    def new(self) -> list[int]:
        """The ids after the prompt."""
        return self.ids[len(self.start.ids) :]

    def add_step(self, step: Step, stopping: Stopping) -> None:
        """Take a step, and its choice where the prompt has ended; done at the last step or where `stopping` says."""
        self.fed = self.stop
        self.steps.append(step)
        if self.fed == len(self.ids):
            self.ids.append(step.next)
        new = self.new
        self.done = len(self.steps) == len(self.stops) or (bool(new) and stopping.reached(new))

    def to_run(self, model: Model) -> Run:
        text = join_text(model, self.prompt, self.ids, self.new)
        return Run(self.ids, self.new, text, self.steps, sum_ledger(self.steps), self.cache)


def generate_together(model: Model, prompts: list[Prompt], options: GenerationOptions) -> list[Run]:
    """A run for each prompt, at most `options.at_once` of them in a step; the events of a run's step are those of all
    sequences in that step. A model with an encoder takes one prompt.

    UsageError: an empty prompt, an unknown cache or feed, more tokens than the context or a cache holds.
    """
    stopping = Stopping(model, options.stop)
    sequences = [_open(model, prompt, options) for prompt in prompts]
    while active := [s for s in sequences if not s.done][: options.at_once]:
        with count_if(model, options.count) as ledger:
            out = _feed(model, active, options.logits)
        for sequence, logits_TV in zip(active, out, strict=True):
            events = tuple(ledger.events)
            if not sequence.steps:
                events = (*sequence.start.events, *events)
            last_V, stop = logits_TV[-1, :], sequence.stop
            chosen = options.sampler.choose(model.ops, last_V, stop)
            fed, kept_V = tuple(sequence.ids[sequence.fed : stop]), last_V if options.keep_logits else None
            sequence.add_step(Step(len(sequence.steps) + 1, fed, chosen, events, kept_V), stopping)
    return [sequence.to_run(model) for sequence in sequences]


def _open(model: Model, prompt: Prompt, options: GenerationOptions) -> Sequence:
    """A sequence of which nothing is fed yet."""
    cache = model.new_cache(options.cache)
    start = start_run(model, prompt, options.count)
    check_room(model, [cache], len(start.ids), options.max_new_tokens)
    stops = plan_stops(len(start.ids), options.max_new_tokens, options.feed)
    return Sequence(prompt, start, cache, stops, list(start.ids))


def _feed(model: Model, active: list[Sequence], logits: Logits) -> list[Array]:
    """The logits [T, V] of the next step of each sequence."""
    fed = [(sequence.ids[sequence.cache.seen : sequence.stop], sequence.cache) for sequence in active]
    if len(active) > 1:
        return model.batch(fed, logits=logits)
    ((ids, cache),) = fed
    return [model(ids, cache, logits=logits, encoder_states=active[0].start.source)]
