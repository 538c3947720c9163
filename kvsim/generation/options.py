"""The options of `generate` as one record."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypedDict

from kvsim.checks import check_whole
from kvsim.counting.ledger import Ledger
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stop
from kvsim.model import Logits, Model


@dataclass(frozen=True)
class GenerationOptions:
    """How `generate` continues a prompt; its docstring explains each option."""

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
        if self.at_once is not None:
            check_whole("at_once", self.at_once, 1)


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
