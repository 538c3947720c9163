"""The loop: feed what the cache has not seen, choose, repeat.

`run_lockstep` drives any number of caches over the same tokens; `generate` is the loop with one of
them, `kvsim.trace` with two.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack, overload

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError, shortened
from kvsim.model import Logits, Model
from kvsim.sampling import Sampler
from kvsim.stopping import Stop, Stopping

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Step:
    """One turn of the loop."""

    number: int  # from 1
    fed: tuple[int, ...]  # the ids that this step adds to the text the model has read
    next: int  # the model's own choice for what follows, also while the prompt is fed
    events: tuple[MatMul, ...]  # every matrix product of the step
    logits: Array | None = None  # [V] at the last position, with keep_logits=True


@dataclass(frozen=True)
class Run:
    """What `generate` did."""

    ids: list[int]  # prompt and new
    new_ids: list[int]
    text: str | None  # prompt and new; None for a model without a tokenizer
    steps: list[Step]
    ledger: Ledger  # of all steps
    cache: Cache


class Pass(NamedTuple):
    """One cache's part of a step: logits of all tokens the model was fed, [T, V], or what is kept of them, and the
    ledger."""

    logits: Any
    ledger: Ledger


class Lockstep(NamedTuple):
    """One turn of the loop for several caches over the same tokens."""

    number: int
    fed: tuple[int, ...]
    next: int  # chosen from the first cache's logits
    passes: tuple[Pass, ...]


def parse_feed(feed: str) -> int | None:
    """Prompt tokens to a step: 1 for "token", K for "chunk:K", None (all) for "prefill"."""
    if feed == "token":
        return 1
    if feed == "prefill":
        return None
    chunk = re.fullmatch("chunk:([0-9]{1,18})", feed) if isinstance(feed, str) else None
    if chunk and int(chunk[1]) > 0:
        return int(chunk[1])
    raise UsageError("unknown feed {feed}: use token, prefill or chunk:K with K at least 1", feed=shortened(feed))


def plan_stops(n_prompt: int, max_new_tokens: int, feed: str) -> list[int]:
    """How many tokens the model has read after each step. The last new token is never fed."""
    size = parse_feed(feed) or n_prompt
    return [*range(size, n_prompt, size), *range(n_prompt, n_prompt + max_new_tokens)]


def encode_prompt(model: Model, prompt: Prompt) -> list[int]:
    """The ids of a prompt. UsageError: empty, or text for a model without a tokenizer."""
    if not isinstance(prompt, str):
        ids = model.check_ids(prompt) if len(prompt) else []
    elif model.tokenizer is None:
        raise UsageError("the model {model} has no tokenizer.json: give token ids, not text", model=model.name)
    else:
        ids = model.tokenizer.encode(prompt)
    if not ids:
        raise UsageError("the text is empty: give at least one character")
    return ids


def encode_source(model: Model, prompt: Any) -> Array:
    """What an encoder makes of its prompt: text, ids, or features [mels, frames]."""
    assert model.config.encoder is not None
    if model.config.encoder.audio is not None:
        return model.encode(features=prompt)
    return model.encode(encode_prompt(model, prompt))


def start_id(model: Model) -> int:
    """What the text of an encoder-decoder starts with."""
    if model.config.start_id is None:
        raise UsageError("the config of {model} has no decoder_start_token_id", model=model.name)
    return model.config.start_id


def check_room(model: Model, caches: Sequence[Cache], n_prompt: int, max_new_tokens: int) -> None:
    """Refuse, before anything runs, a generation that could not end."""
    if isinstance(max_new_tokens, bool) or not hasattr(max_new_tokens, "__index__") or max_new_tokens < 1:
        raise UsageError(
            "the number of new tokens must be a whole number of at least 1, got {got}", got=shortened(max_new_tokens)
        )
    fed = n_prompt + max_new_tokens - 1
    if fed > model.config.max_context:
        raise UsageError(
            "the model {model} has a context of {context} tokens, asked for {asked}"
            " ({prompt} of the prompt and {new} new ones but the last): use a shorter text or fewer new tokens",
            model=model.name,
            context=model.config.max_context,
            asked=fed,
            prompt=n_prompt,
            new=max_new_tokens,
        )
    for cache in caches:
        cache.admit(fed - cache.seen)


def run_lockstep(
    model: Model,
    prompt: Sequence[int],
    caches: Sequence[Cache],
    max_new_tokens: int,
    feed: str,
    sampler: Sampler,
    count: bool = True,
    logits: Logits = "all",
    source: Array | None = None,
    keep: Callable[[Array, Array], Any] | None = None,
) -> Iterator[Lockstep]:
    """Steps over `prompt` and `max_new_tokens` more, the same tokens through every cache: one that has seen some of
    them already is fed the others. `source`: what an encoder made of its own prompt. `keep`: what passes after the
    first keep, told the first one's logits and their own; the logits unless said."""
    check_room(model, caches, len(prompt), max_new_tokens)
    stops = plan_stops(len(prompt), max_new_tokens, feed)
    ids = list(prompt)
    start = 0
    for number, stop in enumerate(stops, start=1):
        passes: list[Pass] = []
        for cache in caches:
            with model.count() if count else nullcontext(Ledger()) as ledger:
                new = ids[cache.seen : stop]
                made = model(new, cache, logits=logits, encoder_states=source)
            passes.append(Pass(made if keep is None or not passes else keep(passes[0].logits, made), ledger))
            del made  # not held while the next cache's are computed
        chosen = sampler.choose(model.ops, passes[0].logits[-1, :], stop)
        if stop == len(ids):
            ids.append(chosen)
        yield Lockstep(number, tuple(ids[start:stop]), chosen, tuple(passes))
        start = stop


def join_text(model: Model, prompt: Prompt, ids: list[int], new: list[int]) -> str | None:
    """The prompt as it was written, and its continuation."""
    if model.tokenizer is None:
        return None
    if model.config.encoder is not None:
        return model.tokenizer.decode(new)
    whole = model.tokenizer.decode(ids)
    if not isinstance(prompt, str):
        return whole
    return prompt + whole[len(model.tokenizer.decode(ids[: len(ids) - len(new)])) :]


def _generate(
    model: Model, prompt: Prompt, max_new_tokens: int, cache: str, feed: str, stop: Stop | None,
    keep_logits: bool, count: bool, logits: Logits, sampler: Sampler,
) -> Run:  # fmt: skip
    held = model.new_cache(cache)
    stopping = Stopping(model, stop)
    steps: list[Step] = []
    ledger = Ledger()
    source: Array | None = None
    first: tuple[MatMul, ...] = ()
    if model.config.encoder is None:
        ids = encode_prompt(model, prompt)
    else:
        with model.count() if count else nullcontext(Ledger()) as encoding:
            source = encode_source(model, prompt)
        ids, first = [start_id(model)], tuple(encoding.events)
    n_prompt = len(ids)
    new: list[int] = []
    n_fed = 0
    for turn in run_lockstep(model, ids, [held], max_new_tokens, feed, sampler, count, logits, source):
        (done,) = turn.passes
        n_fed += len(turn.fed)
        kept = done.logits[-1, :] if keep_logits else None
        events = (*first, *done.ledger.events)
        first = ()
        steps.append(Step(turn.number, turn.fed, turn.next, events, kept))
        ledger.events += events
        if n_fed >= n_prompt:
            new.append(turn.next)
            if stopping.reached(new):
                break
    return Run([*ids, *new], new, join_text(model, prompt, [*ids, *new], new), steps, ledger, held)


class Options(TypedDict, total=False):
    """The options of `generate`, for type checkers."""

    cache: str
    feed: str
    stop: Stop | None
    keep_logits: bool
    count: bool
    logits: Logits
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int


@overload
def generate(  # type: ignore[overload-overlap]  # a str is also a sequence of str
    model: Model, prompt: str | Sequence[int], max_new_tokens: int = ..., **options: Unpack[Options]
) -> Run: ...


@overload
def generate(
    model: Model, prompt: Sequence[str] | Sequence[Sequence[int]], max_new_tokens: int = ..., **options: Unpack[Options]
) -> list[Run]: ...


def generate(
    model: Model,
    prompt: Prompt | Sequence[str] | Sequence[Sequence[int]],
    max_new_tokens: int = 16,
    *,
    cache: str = "dynamic",
    feed: str = "prefill",
    stop: Stop | None = None,
    keep_logits: bool = False,
    count: bool = True,
    logits: Logits = "all",
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Run | list[Run]:
    """Continue `prompt` (text, ids, or a list of either: a list of runs) by `max_new_tokens`. The prompts of a
    list go through their steps together; a run's events are then those of the whole batch.

    The prompt is fed as `feed` says ("token", "prefill", "chunk:K"), through a fresh cache ("none",
    "dynamic", "static:N"). The run ends early only at `stop`: an id, a text, or a list of these.
    Every step records its products (`count=False`: none), the head on all positions it was fed
    (`logits="last"`: on the last). Greedy unless `temperature` is above 0.

    UsageError: an empty prompt, an unknown cache or feed, more tokens than the context or the cache holds.
    """
    sampler = Sampler(temperature, top_k, top_p, seed)
    whole = isinstance(prompt, str) or getattr(prompt, "ndim", 1) == 2  # a text, or the features of a sound
    parts: Any = prompt if whole else list(prompt)  # which may be an iterator
    several = not whole and bool(parts) and not any(hasattr(part, "__index__") for part in parts)
    prompts: list[Prompt] = parts if several else [parts]
    if several and model.config.encoder is None:
        from kvsim.batches import generate_together

        encoded = [(one, encode_prompt(model, one)) for one in prompts]
        stopping = Stopping(model, stop)
        return generate_together(
            model, encoded, max_new_tokens, cache, feed, stopping, keep_logits, count, logits, sampler
        )
    runs = [
        _generate(model, one, max_new_tokens, cache, feed, stop, keep_logits, count, logits, sampler) for one in prompts
    ]
    return runs if several else runs[0]
