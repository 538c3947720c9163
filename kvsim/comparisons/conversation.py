"""A conversation of several turns through one cache: what reuse saves, measured against a cache that starts again.

A turn's text follows all earlier turns. The cache has seen everything but the last token of the last reply, which was
chosen and never fed: it is fed with the next turn. What engines call prefix reuse is therefore the loop's own line,
`model(ids[cache.seen:], cache)`.
"""

from pathlib import Path

from kvsim.caches.cache import Cache
from kvsim.checks import as_int, check_kind, check_text
from kvsim.comparisons.agreement import check_agreement, combine, quietly
from kvsim.comparisons.agreement_record import Agreement
from kvsim.comparisons.conversation_record import Turn, Work
from kvsim.comparisons.counts import Counts, find_length_dependence
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.errors import KvsimError, UsageError, Words, shortened
from kvsim.generation.lockstep import Lockstep, run_lockstep
from kvsim.generation.plan import check_room
from kvsim.generation.prompts import Prompt, encode_prompt
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model
from kvsim.schemas.display import mimebundle
from kvsim.text import find_unknown, one_line


def common_prefix(one: list[int], other: list[int]) -> int:
    """The number of ids at the beginning that both share."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class _Meter:
    """What both runs of a turn executed, and how far they agree, step by step."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.events: tuple[list[MatMul], list[MatMul]] = [], []
        self.agreements: list[Agreement] = []

    def add(self, step: Lockstep) -> None:
        """Take a step. KvsimError: a logit that is not finite."""
        reused, fresh = step.passes
        for events, done in zip(self.events, step.passes, strict=True):
            events.extend(done.ledger.events)
        self.agreements.append(check_agreement(self.model, fresh.logits, reused.logits, fresh.ledger))

    def measure(self, caches: list[Cache]) -> list[Work]:
        """The work of both runs, with their caches as they are now."""
        return [
            Work(Counts.of(Ledger(events)), cache.logical_bytes, cache.allocated_bytes)
            for events, cache in zip(self.events, caches, strict=True)
        ]


class Conversation:
    """Turns through one cache. `model` is a name, a folder, or a loaded Model; `cache` a spec.

    There is no chat template: a turn's text is appended to the ids so far, after `separator` (except in the first
    turn). Each text is encoded by itself; special tokens that the tokenizer puts before every text are kept only at
    the start of the conversation. A turn may be given as ids. Replies are greedy unless `sampler` draws.

    UsageError: an unknown cache, or a model with an encoder. Otherwise as `kvsim.load`.
    """

    _repr_mimebundle_ = mimebundle

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
        self.separator = check_text("separator", separator)
        wanted = Words("a Sampler (kvsim.generation.sampling) or None")
        check_kind("sampler", sampler is None or isinstance(sampler, Sampler), sampler, wanted)
        self.sampler = sampler or Sampler()
        self.turns: list[Turn] = []
        self.ids: list[int] = []  # of all turns, the last reply's last token included

    def __repr__(self) -> str:
        size = f"turns {len(self.turns):,}, tokens {len(self.ids):,}"
        return one_line(f"<kvsim.Conversation {size}, model {self.model.name}, cache {self.cache.spec}>")

    @property
    def text(self) -> str | None:
        """The text of all turns; None for a model without a tokenizer."""
        return None if self.model.tokenizer is None else self.model.tokenizer.decode(self.ids)

    @property
    def by_length(self) -> str | None:
        """The kind of rotary positions whose frequencies depend on the length, or None. With such positions a turn
        through a reused cache differs from one through a new cache by design."""
        return find_length_dependence(self.model.config)

    def say(self, text: Prompt, max_new_tokens: int = 8) -> Turn:
        """The next turn: `text`, and a reply of `max_new_tokens` tokens.

        UsageError: an empty text, or more tokens than the context or the cache holds; nothing is changed then.
        KvsimError: logits that are not finite.
        """
        return self._add(self.turns, text, max_new_tokens)

    def edit(self, number: int, text: Prompt, max_new_tokens: int | None = None) -> Turn:
        """Replace the text of turn `number`; later turns are dropped. The reply has as many tokens as before if
        `max_new_tokens` is None. The cache is cropped to the prefix that both texts share, which is reused.

        A cache that cannot be cropped (rows evicted or quantised) is cleared, and everything is fed again: the result
        is the same, the turn's `cached` is 0, and its `restart` has the reason.

        UsageError: there is no such turn, or as `say`; nothing is changed then.
        """
        self.check_number(number)
        replaced = self.turns[number - 1]
        new = len(replaced.reply_ids) if max_new_tokens is None else max_new_tokens
        return self._add(self.turns[: number - 1], text, new)

    def fork(self) -> "Conversation":
        """A second conversation that begins with this one's turns and continues independently, with a fork of the
        cache: the turns so far are not fed again."""
        other = Conversation(self.model, self.cache.spec, separator=self.separator, sampler=self.sampler)
        other.cache, other.turns, other.ids = self.cache.fork(), list(self.turns), list(self.ids)
        return other

    def check_number(self, number: int) -> None:
        """UsageError: there is no turn `number`."""
        turn = as_int(number)
        if turn is None or not 1 <= turn <= len(self.turns):
            raise UsageError(
                "there is no turn {number}: this conversation has {count}",
                number=shortened(number),
                count=len(self.turns),
            )

    def encode(self, text: Prompt, first: bool) -> list[int]:
        """The ids of a turn's text, after the separator unless it is the first. UsageError: it is empty."""
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
        """Crop the cache to the prefix that it shares with `ids`, so that at least one id is left to feed; the error
        if it cannot be cropped and was cleared. The tokens of an interrupted turn are removed, too."""
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
        """The turn that follows the turns `before`, which are all of this conversation's or the first of them."""
        model, start = self.model, before[-1].stop if before else 0
        own = self.encode(text, first=not before)
        ids = [*self.ids[:start], *own]
        fresh = model.new_cache(self.cache.spec)
        max_new_tokens = check_room(model, [fresh], len(ids), max_new_tokens)
        seen, restart = self.cache.seen, self._rewind(ids)
        cached = self.cache.seen
        caches, meter, reply = [self.cache, fresh], _Meter(model), list[int]()
        for step in quietly(run_lockstep(model, ids, caches, max_new_tokens, "prefill", self.sampler)):
            meter.add(step)
            reply.append(step.next)
        reused, again = meter.measure(caches)
        agreement = combine(meter.agreements)
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
            max_abs_diff=agreement.difference,
            allowed_diff=agreement.allowed,
            agrees=all(one.agrees for one in meter.agreements),
            identical=all(one.identical for one in meter.agreements),
            restart=restart,
            dropped=seen - cached,
        )
        self.turns, self.ids = [*before, made], [*ids, *reply]
        return made

    def _reply(self, ids: list[int], reply: list[int]) -> str | None:
        """The text of the reply, decoded with what precedes it: a token's text may depend on the tokens before it."""
        tokenizer = self.model.tokenizer
        return None if tokenizer is None else tokenizer.decode([*ids, *reply])[len(tokenizer.decode(ids)) :]

    def _unknown(self, text: Prompt) -> tuple[str, ...]:
        """Pieces of a text that are not in the vocabulary, each once; none for ids."""
        tokenizer = self.model.tokenizer
        return tuple(find_unknown(tokenizer.split(text))) if tokenizer is not None and isinstance(text, str) else ()
