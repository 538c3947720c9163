"""The answer of a `Conversation` to one text: a turn."""

from dataclasses import dataclass
from typing import NamedTuple

from kvsim.comparisons.agreement_record import show_agreement
from kvsim.comparisons.counts import Counts
from kvsim.errors import KvsimError
from kvsim.schemas.display import mimebundle
from kvsim.text import one_line, show_text


class Work(NamedTuple):
    """What one run executed in a turn, and what its cache holds after it."""

    counts: Counts
    kv_bytes: int  # bytes of the rows that the cache holds
    allocated_bytes: int  # bytes of the arrays allocated for them

    def __repr__(self) -> str:
        return one_line(f"<Work {self.counts}, {self.kv_bytes:,} B cached>")


@dataclass(frozen=True)
class Turn:
    """One text and its reply. The same tokens went through two caches: the conversation's own, and a new one that was
    fed the whole conversation at once and then the reply, token by token."""

    number: int  # from 1
    text: str | None  # None for ids
    reply: str | None  # None for a model without a tokenizer
    start: int  # the position in the conversation where the turn begins
    ids: tuple[int, ...]  # of the text, the separator before it included
    reply_ids: tuple[int, ...]
    unknown: tuple[str, ...]  # pieces of the text that are not in the vocabulary, each once
    cached: int  # tokens reused: the conversation's cache had seen them before
    new: int  # tokens fed to that cache: all others but the reply's last
    reused: Work  # of the conversation's cache
    fresh: Work  # of the new cache
    max_abs_diff: float  # largest |difference| between both runs' logits, over every position that both computed
    allowed_diff: float  # the difference that rounding explains; 0 where nothing may differ
    agrees: bool  # is the difference of every step rounding, or nothing where nothing is allowed?
    identical: bool  # are the logits equal bit for bit?
    restart: KvsimError | None = None  # why the cache could not be cropped and was cleared
    dropped: int = 0  # tokens that the conversation's cache had seen beyond `cached`, and that were cropped or cleared

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        text, reply = show_text(self.text, self.ids), show_text(self.reply, self.reply_ids)
        tokens = f"tokens reused {self.cached:,}, fed {self.new:,}"
        return one_line(f"<kvsim.Turn {self.number}: {text}, reply {reply}, {tokens}, {show_agreement(self.agrees)}>")

    @property
    def stop(self) -> int:
        """The number of tokens of the conversation after the turn."""
        return self.start + len(self.ids) + len(self.reply_ids)
