"""A conversation of several turns, whose cache goes on: what it saves, measured against a cache that starts again.

A turn's text follows all that was said before it. The cache has seen everything but the last token of the last reply,
which was chosen and never fed: it is fed with the next turn. What engines call prefix reuse is therefore the loop's own
line, `model(ids[cache.seen:], cache)`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kvsim.caches.cache import Cache
from kvsim.comparisons.trace import allowed_difference, compare_logits, find_length_dependence, quietly
from kvsim.comparisons.trace_record import Counts
from kvsim.counting.ledger import Ledger
from kvsim.errors import KvsimError, UsageError
from kvsim.generation.lockstep import run_lockstep
from kvsim.generation.plan import check_room
from kvsim.generation.prompts import Prompt, encode_prompt
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model
from kvsim.text import find_unknown


class Work(NamedTuple):
    """What one run executed in a turn, and what its cache holds after it."""

    counts: Counts
    kv_bytes: int  # rows that the cache holds
    allocated_bytes: int  # arrays that hold them


@dataclass(frozen=True)
class Turn:
    """One text and its reply. The same tokens went through two caches: the conversation's own, and a fresh one that
    was fed the whole conversation at once and then the reply, token by token."""

    number: int  # from 1
    text: str | None  # None for ids
    reply: str | None  # None for a model without a tokenizer
    start: int  # where the turn begins: tokens of the turns before it
    ids: tuple[int, ...]  # of the text, the separator before it included
    reply_ids: tuple[int, ...]
    unknown: tuple[str, ...]  # parts of the text that the model has never seen
    cached: int  # tokens that the conversation's cache had seen already
    new: int  # those that it was fed; the reply's last token is not among them
    reused: Work
    fresh: Work
    max_abs_diff: float  # between both runs' logits, over every position that both computed
    allowed_diff: float  # 0 where every sum adds in one order: nothing may differ
    agrees: bool  # is every step's difference rounding, or nothing where nothing is allowed?
    identical: bool  # are the logits equal bit for bit?
    restart: KvsimError | None = None  # why the cache could not go back and was cleared

    @property
    def stop(self) -> int:
        """Tokens of the conversation after the turn."""
        return self.start + len(self.ids) + len(self.reply_ids)


def common_prefix(one: list[int], other: list[int]) -> int:
    """How many ids both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class _Meter:
    """What both caches' runs add up to, step by step."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.ledgers = Ledger(), Ledger()
        self.widest, self.allowed, self.agrees, self.identical = 0.0, 0.0, True, True

    def add(self, passes: tuple[tuple[object, Ledger], ...]) -> None:
        (reused, part), (full, whole) = passes
        for mine, ledger in zip(self.ledgers, (part, whole), strict=True):
            mine.events += ledger.events
        ops = self.model.ops
        difference, largest, identical = compare_logits(ops, full, reused)
        if not math.isfinite(difference):
            raise KvsimError("the logits are not finite in {dtype}: use a wider dtype", dtype=self.model.dtype)
        allowed = 0.0 if ops.backend.fixed_order else allowed_difference(ops, whole, largest)
        self.identical &= identical
        agrees = difference <= allowed if allowed else identical
        # The widest step is told; where some differ by more than is allowed, of those.
        if (not agrees, difference) >= (not self.agrees, self.widest):
            self.widest, self.allowed = difference, allowed
        self.agrees &= agrees

    def works(self, caches: list[Cache]) -> tuple[Work, Work]:
        reused, fresh = (
            Work(Counts.of(ledger), cache.logical_bytes, cache.allocated_bytes)
            for ledger, cache in zip(self.ledgers, caches, strict=True)
        )
        return reused, fresh


class Conversation:
    """Turns through one cache. `model` is a name, a folder, or a loaded Model; `cache` a spec.

    There is no chat template: a turn's text is appended to the ids so far, `separator` before it (but not before the
    first). Each text is encoded by itself; special tokens that the tokenizer sets before every text stand at the start
    alone. A turn may be given as ids. Replies are the likeliest tokens unless `sampler` draws.

    UsageError: an unknown cache, or a model with an encoder.
    """

    def __init__(
        self,
        model: str | Path | Model = "demo",
        cache: str = "dynamic",
        *,
        separator: str = "",
        sampler: Sampler | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else load(model)
        if self.model.config.encoder is not None:
            raise UsageError(
                "a conversation needs a model without an encoder: use kvsim.generate for {model}", model=self.model.name
            )
        self.cache = self.model.new_cache(cache)
        self.separator = separator
        self.sampler = sampler or Sampler()
        self.turns: list[Turn] = []
        self.ids: list[int] = []  # everything said, the last reply's last token included

    @property
    def text(self) -> str | None:
        """Everything said; None for a model without a tokenizer."""
        return None if self.model.tokenizer is None else self.model.tokenizer.decode(self.ids)

    @property
    def by_length(self) -> str | None:
        """The kind of positions whose frequencies depend on the length, if the model has such: then a turn through a
        cache that goes on differs from a fresh one by design."""
        return find_length_dependence(self.model.config)

    def say(self, text: Prompt, max_new_tokens: int = 8) -> Turn:
        """The next turn: `text`, answered by `max_new_tokens` tokens.

        UsageError: an empty text, or more tokens than the context or the cache holds; nothing is changed.
        """
        return self._add(self.turns, text, max_new_tokens)

    def edit(self, number: int, text: Prompt, max_new_tokens: int | None = None) -> Turn:
        """Say `text` in place of turn `number`'s, answered by as many tokens as before unless said; later turns are
        dropped. The cache goes back to the first token that is another one, and what stands before it is reused.

        A cache that cannot go back (rows let go, rows quantised) is cleared, and everything is fed again: that is
        always right, the turn says `cached` 0, and `restart` has the reason.

        UsageError: there is no such turn, or as `say`; nothing is changed.
        """
        self.check_number(number)
        replaced = self.turns[number - 1]
        new = len(replaced.reply_ids) if max_new_tokens is None else max_new_tokens
        return self._add(self.turns[: number - 1], text, new)

    def fork(self) -> "Conversation":
        """A second conversation that begins with this one's turns and goes its own way, with a fork of the cache: what
        was said so far is not fed again."""
        other = Conversation(self.model, self.cache.spec, separator=self.separator, sampler=self.sampler)
        other.cache, other.turns, other.ids = self.cache.fork(), list(self.turns), list(self.ids)
        return other

    def check_number(self, number: int) -> None:
        """UsageError: there is no turn `number`."""
        if isinstance(number, bool) or not hasattr(number, "__index__") or not 1 <= number <= len(self.turns):
            raise UsageError(
                "there is no turn {number}: this conversation has {count}", number=number, count=len(self.turns)
            )

    def encode(self, text: Prompt, first: bool) -> list[int]:
        """The ids of a turn's text, with what stands before it. UsageError: it is empty."""
        ids = encode_prompt(self.model, text)
        if first:
            return ids
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            return ids
        lead = tokenizer.encode("")
        if isinstance(text, str):
            ids = tokenizer.encode(self.separator + text)
            return ids[len(lead) :] if ids[: len(lead)] == lead else ids
        between = tokenizer.encode(self.separator)
        return (between[len(lead) :] if between[: len(lead)] == lead else between) + ids

    def _rewind(self, ids: list[int]) -> KvsimError | None:
        """Leave in the cache what `ids` begins with, and at least one id to feed; the reason if that is nothing
        because the cache cannot go back. An interrupted turn's tokens go, too."""
        kept = min(common_prefix(self.cache.ids, ids), len(ids) - 1)
        if kept >= self.cache.seen:
            return None
        try:
            self.cache.crop(kept)
        except UsageError as error:
            self.cache.clear()
            return error
        return None

    def _add(self, before: list[Turn], text: Prompt, max_new_tokens: int) -> Turn:
        """The turn that follows the turns `before`: they are ours, or the first of ours."""
        model, start = self.model, before[-1].stop if before else 0
        own = self.encode(text, first=not before)
        ids = [*self.ids[:start], *own]
        fresh = model.new_cache(self.cache.spec)
        check_room(model, [fresh], len(ids), max_new_tokens)
        restart = self._rewind(ids)
        cached = self.cache.seen
        caches, meter, reply = [self.cache, fresh], _Meter(model), list[int]()
        for turn in quietly(run_lockstep(model, ids, caches, max_new_tokens, "prefill", self.sampler)):
            meter.add(turn.passes)
            reply.append(turn.next)
        reused, again = meter.works(caches)
        made = Turn(
            number=len(before) + 1,
            text=text if isinstance(text, str) else None,
            reply=self._reply(ids, reply),
            start=start,
            ids=tuple(own),
            reply_ids=tuple(reply),
            unknown=self._unknown(text),
            cached=cached,
            new=len(ids) + len(reply) - 1 - cached,
            reused=reused,
            fresh=again,
            max_abs_diff=meter.widest,
            allowed_diff=meter.allowed,
            agrees=meter.agrees,
            identical=meter.identical,
            restart=restart,
        )
        self.turns, self.ids = [*before, made], [*ids, *reply]
        return made

    def _reply(self, ids: list[int], reply: list[int]) -> str | None:
        """The reply's part of the whole text: what a token says may depend on those before it."""
        tokenizer = self.model.tokenizer
        return None if tokenizer is None else tokenizer.decode([*ids, *reply])[len(tokenizer.decode(ids)) :]

    def _unknown(self, text: Prompt) -> tuple[str, ...]:
        tokenizer = self.model.tokenizer
        return tuple(find_unknown(tokenizer.split(text))) if tokenizer is not None and isinstance(text, str) else ()
