"""Speculative decoding (arXiv:2211.17192, arXiv:2302.01318): a cheap drafter guesses the next tokens, the model reads
all guesses in one step and keeps those that it would have chosen itself.

A guess is kept only if it is the token that the sampler chooses at its position, so that the text is that of plain
generation with the same seed. The rows of rejected guesses are removed by `cache.crop`.
"""

import re
from typing import Any, Protocol

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.checks import parse_whole
from kvsim.errors import UsageError, shortened
from kvsim.generation.options import GenerationOptions, count_if
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import Prompt, Start, join_text, start_run
from kvsim.generation.runs import Run, Step, sum_ledger
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stopping
from kvsim.model import Model


class Drafter(Protocol):
    """Guesses the next tokens."""

    def guess(self, ids: list[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `ids`."""


class Lookup:
    """Prompt lookup: guesses what followed the last earlier occurrence of the final `n` tokens (or of fewer)."""

    def __init__(self, n: int) -> None:
        self.n = n

    def guess(self, ids: list[int], count: int) -> list[int]:
        for n in range(min(self.n, len(ids) - 1), 0, -1):
            tail = ids[-n:]
            for start in range(len(ids) - n - 1, -1, -1):
                if ids[start : start + n] == tail:
                    return ids[start + n : start + n + count]
        return []


class DraftModel:
    """A smaller model with a cache of its own, which chooses with the same sampler."""

    def __init__(self, model: Model, sampler: Sampler) -> None:
        self.model, self.sampler, self.cache = model, sampler, model.new_cache("dynamic")

    def guess(self, ids: list[int], count: int) -> list[int]:
        held = self.cache.ids
        common = next((i for i, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b), min(len(held), len(ids)))
        try:
            self.cache.crop(min(common, len(ids) - 1))
        except UsageError:  # a window that has evicted the rows: read the text again
            self.cache.clear()
        text = list(ids)
        for _ in range(min(count, self.model.config.max_context - len(ids) + 1)):
            logits = self.model(text[self.cache.seen :], self.cache, logits="last")
            text.append(self.sampler.choose(self.model.ops, logits[0, :], len(text)))
        return text[len(ids) :]


def make_drafter(model: Model, draft: Any, sampler: Sampler) -> Drafter:
    """The drafter for "ngram:N" or a model. UsageError: anything else, or a model with another vocabulary."""
    if isinstance(draft, str) and (found := re.fullmatch("ngram:([0-9]+)", draft)) and set(found[1]) != {"0"}:
        return Lookup(parse_whole("ngram", found[1]))
    if not isinstance(draft, Model):
        raise UsageError("draft must be a model or ngram:N with N at least 1, got {got}", got=shortened(draft))
    if draft.config.vocab_size != model.config.vocab_size or draft.config.encoder is not None:
        raise UsageError(
            "the draft model must be a decoder with the vocabulary of {model}, {size} tokens",
            model=model.name,
            size=model.config.vocab_size,
        )
    return DraftModel(draft, sampler)


class _Speculation:
    """The text so far, and the steps that led there."""

    def __init__(self, model: Model, start: Start, cache: Cache, options: GenerationOptions) -> None:
        self.model, self.start, self.cache, self.options = model, start, cache, options
        self.stopping = Stopping(model, options.stop)
        self.ids = list(start.ids)  # prompt and new
        self.end = len(start.ids) + options.max_new_tokens  # the number of ids at which the run ends
        self.fed = 0  # ids whose rows are final: rejected guesses are not among them
        self.steps: list[Step] = []
        self.drafted = self.accepted = 0

    @property
    def new(self) -> list[int]:
        """The ids after the prompt."""
        return self.ids[len(self.start.ids) :]

    def take_step(self, stop: int, guesses: list[int]) -> None:
        """Feed the ids up to `stop` and the guesses after them; at the end of the text, append what was chosen."""
        fed = (*self.ids[self.fed : stop], *guesses)
        with count_if(self.model, self.options.count) as ledger:
            ids = [*self.ids[self.cache.seen : stop], *guesses]
            logits_TV = self.model(ids, self.cache, encoder_states=self.start.source)
        choices = self._choose(logits_TV, stop, guesses)
        appended = self._append(choices) if stop == len(self.ids) else 0
        accepted = max(appended - 1, 0)
        self.drafted += len(guesses)
        self.accepted += accepted
        self.fed = len(self.ids) - 1 if appended else stop
        events = tuple(ledger.events) if self.steps else (*self.start.events, *ledger.events)
        row_V = logits_TV[len(logits_TV) - len(guesses) - 1 + accepted, :] if self.options.keep_logits else None
        self.steps.append(Step(len(self.steps) + 1, fed, choices[accepted], events, row_V))
        if self.cache.keeps and self.cache.seen > self.fed:
            self.cache.crop(self.fed)

    def _choose(self, logits_TV: Array, stop: int, guesses: list[int]) -> list[int]:
        """The sampler's choice after the ids up to `stop`, and after each guess as long as the guesses are its own
        choices."""
        sampler, chosen = self.options.sampler, list[int]()
        first = logits_TV.shape[0] - len(guesses) - 1
        for i in range(len(guesses) + 1):
            chosen.append(sampler.choose(self.model.ops, logits_TV[first + i, :], stop + i))
            if i == len(guesses) or guesses[i] != chosen[-1]:
                break
        return chosen

    def _append(self, choices: list[int]) -> int:
        """Append the choices to the text, up to one that stops the run; the number of those appended."""
        for count, token in enumerate(choices, start=1):
            self.ids.append(token)
            if self.stopping.reached(self.new):
                self.end = len(self.ids)
                return count
        return len(choices)


def speculate(model: Model, prompt: Prompt, options: GenerationOptions) -> Run:
    """A run whose steps after the prompt feed up to `options.draft_tokens` guesses each; `step.next` is the last token
    that the step decided.

    UsageError: a lossy cache, a drafter that does not fit the model, or as `generate`.
    """
    start = start_run(model, prompt, options.count)
    drafter = make_drafter(model, options.draft, options.sampler)
    cache = model.new_cache(options.cache)
    if not cache.lossless:
        raise UsageError(
            "speculative decoding removes the rows of rejected tokens, which the lossy cache {spec} does not support:"
            " use dynamic, static:N or paged:B",
            spec=cache.spec,
        )
    check_room(model, [cache], len(start.ids), options.max_new_tokens)
    run = _Speculation(model, start, cache, options)
    for stop in plan_stops(len(start.ids), 1, options.feed):
        run.take_step(stop, [])
    while len(run.ids) < run.end:
        run.take_step(len(run.ids), drafter.guess(run.ids, min(options.draft_tokens, run.end - len(run.ids) - 1)))
    text = join_text(model, prompt, run.ids, run.new)
    return Run(
        run.ids, run.new, text, run.steps, sum_ledger(run.steps), cache, drafted=run.drafted, accepted=run.accepted
    )
