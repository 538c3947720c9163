"""The options of `generate` as one record."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypedDict

from kvsim.checks import check_flag, check_whole
from kvsim.counting.ledger import Ledger
from kvsim.errors import Words
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stop
from kvsim.model import Logits, Model


@dataclass(frozen=True)
class GenerationOptions:
    """How `generate` continues a prompt; its docstring explains each option. UsageError: a number or a flag that is
    none, or out of range."""

    max_new_tokens: int
    cache: str
    feed: str
    stop: Stop | None
    keep_logits: bool
    count: bool
    logits: Logits
    sampler: Sampler
    beams: int
    draft: Any  # a model, "ngram:N", or None
    draft_tokens: int
    at_once: int | None  # None: all prompts of a list

    def __post_init__(self) -> None:
        checked = {
            "max_new_tokens": check_whole(Words("the number of new tokens"), self.max_new_tokens, 1),
            "keep_logits": check_flag("keep_logits", self.keep_logits),
            "count": check_flag("count", self.count),
            "beams": check_whole("beams", self.beams, 1),
            "draft_tokens": check_whole("draft_tokens", self.draft_tokens, 1),
            "at_once": None if self.at_once is None else check_whole("at_once", self.at_once, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class GenerateKeywords(TypedDict, total=False):
    """The keyword arguments of `generate`, for type checkers."""

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
    beams: int
    draft: Any
    draft_tokens: int
    at_once: int | None


def count_if(model: Model, wanted: bool) -> AbstractContextManager[Ledger]:
    """A ledger of the products in the `with` block if `wanted`, else an empty one and nothing is counted."""
    return model.ops.count() if wanted else nullcontext(Ledger())
