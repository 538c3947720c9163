"""What a generation is told as, and what it needs before it starts: prompts as ids, steps planned, room checked."""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError, shortened
from kvsim.model import Model

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Step:
    """One turn of the loop."""

    number: int  # from 1
    fed: tuple[int, ...]  # the ids that this step adds to the text the model has read
    next: int  # the model's own choice for what follows, also while the prompt is fed
    events: tuple[MatMul, ...]  # every matrix product of the step
    logits: Array | None = None  # [V] at the last position, with keep_logits=True


class Beam(NamedTuple):
    """One of several continuations."""

    new_ids: list[int]
    text: str | None  # prompt and new
    score: float  # sum of the new tokens' log-probabilities


@dataclass(frozen=True)
class Run:
    """What `generate` did."""

    ids: list[int]  # prompt and new
    new_ids: list[int]
    text: str | None  # prompt and new; None for a model without a tokenizer
    steps: list[Step]
    ledger: Ledger  # of all steps
    cache: Cache
    beams: tuple[Beam, ...] = ()  # best first, with beams=N
    drafted: int = 0  # tokens that were guessed, and how many of them the model chose itself, with draft=
    accepted: int = 0


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


class Start(NamedTuple):
    """Where a run starts."""

    ids: list[int]  # what the decoder is fed first
    source: Array | None  # what an encoder made of its prompt
    events: tuple[MatMul, ...]  # its products


def start_run(model: Model, prompt: Prompt, count: bool) -> Start:
    """The prompt read: by the tokenizer, and by the encoder where there is one."""
    if model.config.encoder is None:
        return Start(encode_prompt(model, prompt), None, ())
    with model.ops.count() if count else nullcontext(Ledger()) as encoding:
        source = encode_source(model, prompt)
    return Start([start_id(model)], source, tuple(encoding.events))


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
