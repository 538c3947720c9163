"""Speculative decoding (arXiv:2211.17192, arXiv:2302.01318): someone cheap guesses the next tokens, the model reads all
guesses in one step and keeps those that it would have chosen itself.

A token is kept if it is the very one that the sampler chooses at its position: what comes out is what plain generation
gives, with the same seed. The rows of guesses that were wrong are taken back by `cache.crop`.
"""

import re
from contextlib import nullcontext
from typing import Any, Protocol

from kvsim.caches.cache import Cache
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError, shortened
from kvsim.generation.runs import Prompt, Run, Start, Step, check_room, join_text, plan_stops
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stopping
from kvsim.model import Model


def check_size(size: Any) -> int:
    """UsageError: no whole number of at least 1."""
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
        raise UsageError("draft_tokens must be a whole number of at least 1, got {got}", got=shortened(size))
    return int(size)


class Drafter(Protocol):
    """Whoever guesses: up to `count` tokens that may follow `ids`."""

    def guess(self, ids: list[int], count: int) -> list[int]: ...


class Lookup:
    """What followed the last `n` tokens (or fewer of them) the last time that they stood together: prompt lookup."""

    def __init__(self, n: int) -> None:
        self.n = n

    def guess(self, ids: list[int], count: int) -> list[int]:
        for n in range(min(self.n, len(ids) - 1), 0, -1):
            tail = ids[-n:]
            for start in range(len(ids) - n - 1, -1, -1):
                if ids[start : start + n] == tail:
                    return ids[start + n : start + n + count]
        return []


class Smaller:
    """Another model, with a cache of its own, that chooses by the same sampler."""

    def __init__(self, model: Model, sampler: Sampler) -> None:
        self.model, self.sampler, self.cache = model, sampler, model.new_cache("dynamic")

    def guess(self, ids: list[int], count: int) -> list[int]:
        held = self.cache.ids
        common = next((i for i, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b), min(len(held), len(ids)))
        try:
            self.cache.crop(min(common, len(ids) - 1))
        except UsageError:  # a window that has let go of the rows: read the text again
            self.cache.clear()
        text = list(ids)
        for _ in range(min(count, self.model.config.max_context - len(ids) + 1)):
            logits = self.model(text[self.cache.seen :], self.cache, logits="last")
            text.append(self.sampler.choose(self.model.ops, logits[0, :], len(text)))
        return text[len(ids) :]


def make_drafter(model: Model, draft: Any, sampler: Sampler) -> Drafter:
    """ "ngram:3", or a model. UsageError: neither, or a model with another vocabulary."""
    if isinstance(draft, str) and (found := re.fullmatch("ngram:([0-9]{1,9})", draft)) and int(found[1]) > 0:
        return Lookup(int(found[1]))
    if not isinstance(draft, Model):
        raise UsageError("draft must be a model or ngram:N with N at least 1, got {got}", got=shortened(draft))
    if draft.config.vocab_size != model.config.vocab_size or draft.config.encoder is not None:
        raise UsageError(
            "the draft model must be a decoder with the vocabulary of {model}, {size} tokens",
            model=model.name,
            size=model.config.vocab_size,
        )
    return Smaller(draft, sampler)


def speculate(
    model: Model, prompt: Prompt, start: Start, max_new_tokens: int, spec: str, feed: str, stopping: Stopping,
    keep_logits: bool, count: bool, sampler: Sampler, drafter: Drafter, size: int,
) -> Run:  # fmt: skip
    """A run whose steps after the prompt feed up to `size` guesses each; `step.next` is the last token that the step
    made certain."""
    ids, source, first = start
    cache = model.new_cache(spec)
    if not cache.lossless:
        raise UsageError(
            "speculative decoding takes rows back, which the lossy cache {spec} cannot promise: use dynamic, static:N"
            " or paged:B",
            spec=cache.spec,
        )
    check_room(model, [cache], len(ids), max_new_tokens)
    text, end = list(ids), len(ids) + max_new_tokens
    steps: list[Step] = []
    ledger = Ledger()
    drafted = accepted = done = 0
    stops = plan_stops(len(ids), 1, feed)
    while len(text) < end:
        guesses: list[int] = []
        if stops:
            stop = stops.pop(0)
        else:
            stop, guesses = len(text), drafter.guess(text, min(size, end - len(text) - 1))
        fed = [*text[done:stop], *guesses]
        with model.ops.count() if count else nullcontext(Ledger()) as counted:
            out = model([*text[cache.seen : stop], *guesses], cache, encoder_states=source)
        kept = _accept(model, out, text[:stop], guesses, sampler)
        new = kept if stop == len(text) else []
        for i, token in enumerate(new):
            text.append(token)
            if stopping.reached(text[len(ids) :]):
                new, end = new[: i + 1], len(text)
                break
        drafted += len(guesses)
        accepted += max(len(new) - 1, 0)
        done = len(text) - 1 if new else stop
        row = out[len(out) - len(guesses) - 1 + max(len(new) - 1, 0), :] if keep_logits else None
        steps.append(Step(len(steps) + 1, tuple(fed), kept[max(len(new) - 1, 0)], (*first, *counted.events), row))
        ledger.events += steps[-1].events
        first = ()
        _take_back(cache, done)
    new_ids = text[len(ids) :]
    told = join_text(model, prompt, text, new_ids)
    return Run(text, new_ids, told, steps, ledger, cache, drafted=drafted, accepted=accepted)


def _accept(model: Model, out: Any, text: list[int], guesses: list[int], sampler: Sampler) -> list[int]:
    """What the sampler chooses after the text, and after each guess as long as the guesses are its own choices."""
    chosen: list[int] = []
    first = out.shape[0] - len(guesses) - 1
    for i in range(len(guesses) + 1):
        chosen.append(sampler.choose(model.ops, out[first + i, :], len(text) + i))
        if i == len(guesses) or guesses[i] != chosen[-1]:
            break
    return chosen


def _take_back(cache: Cache, length: int) -> None:
    """The rows of guesses that were not kept."""
    if cache.keeps and cache.seen > length:
        cache.crop(length)
