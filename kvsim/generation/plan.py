"""What a generation will feed, step by step, and whether it fits: checked before anything runs."""

import re
from collections.abc import Sequence
from typing import Any

from kvsim.caches.cache import Cache
from kvsim.checks import check_whole, parse_whole
from kvsim.errors import UsageError, Words, shortened
from kvsim.model import Model

MOST_NEW = 10**6  # tokens of one run: each is a step, and the steps are planned before the first


def parse_feed(feed: Any) -> int | None:
    """Prompt tokens per step: 1 for "token", K for "chunk:K", None (all of them) for "prefill". UsageError: others."""
    text = feed if isinstance(feed, str) else ""
    if text == "token":
        return 1
    if text == "prefill":
        return None
    chunk = re.fullmatch("chunk:([0-9]+)", text)
    size = parse_whole("chunk", chunk[1]) if chunk else 0
    if size > 0:
        return size
    raise UsageError("unknown feed {feed}: use token, prefill or chunk:K with K at least 1", feed=shortened(feed))


def plan_stops(n_prompt: int, max_new_tokens: int, feed: str) -> list[int]:
    """The number of tokens that the model has read after each step. The last new token is chosen but never fed."""
    size = parse_feed(feed) or n_prompt
    return [*range(size, n_prompt, size), *range(n_prompt, n_prompt + max_new_tokens)]


def check_room(model: Model, caches: Sequence[Cache], n_prompt: int, max_new_tokens: int) -> int:
    """`max_new_tokens` as an int. UsageError: not a whole number from 1 to MOST_NEW, or `n_prompt` tokens and the new
    ones exceed the model's context or the room of a cache."""
    max_new_tokens = check_whole(Words("the number of new tokens"), max_new_tokens, 1)
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
    check_whole(Words("the number of new tokens"), max_new_tokens, 1, MOST_NEW)
    for cache in caches:
        cache.admit(fed - cache.seen)
    return max_new_tokens
