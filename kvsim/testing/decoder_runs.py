"""A decoder under test, fed its programme: what it gave beside what was expected."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kvsim.testing.boundaries import Margins, choose_text, margins_of
from kvsim.testing.diagnosing import Chunks, equal
from kvsim.testing.foreign import Given, largest, run_text
from kvsim.testing.programme import Feed, feeds
from kvsim.testing.references import Allowed, Reference, allow, coarser
from kvsim.testing.rounding import format_name

Make = Callable[..., Any]
Step = Callable[[Any, list[int]], Any]


class Compared(NamedTuple):
    """One feed: what came and what was expected."""

    feed: Feed
    text: Chunks
    given: Given
    expected: Any  # [T, V]

    def fails(self, allowed: float) -> bool:
        return self.given.logits is not None and not equal(self.given.logits, self.expected, allowed)


class Check(NamedTuple):
    """All that one check knows."""

    make: Make
    step: Step
    reference: Reference
    allowed: Allowed
    done: list[Compared]
    seed: int
    margins: Margins  # what numbers that are quantised keep from rounding boundaries
    layers: Callable[[Any], Any] | None  # what the decoder shows of its layers


def run_check(
    make: Make, step: Step, reference: Reference, cases: int, seed: int, given: float | None, dtype: str | None,
    layers: Callable[[Any], Any] | None,
) -> Check:  # fmt: skip
    """Feed everything, then decide what rounding may do."""
    config = reference.config
    chosen = feeds(config, reference.policy, cases, seed)
    numbers = [*range(len(chosen) - 1), 0]
    format = format_name(dtype) if dtype else None
    margins = margins_of(reference, max(chosen, key=sum), format or coarser(reference.dtype, "float32"), seed)
    texts = [choose_text(reference, f, n, seed, margins) for f, n in zip(chosen, numbers, strict=True)]
    done = []
    for feed, text in zip(chosen, texts, strict=True):
        done.append(Compared(feed, text, run_text(make, step, text, config.vocab_size), reference.run(text)))
    came = [c.given.dtype for c in done if c.given.logits is not None]
    name = format or (coarser(came[0], reference.dtype) if came else reference.dtype)
    own = 0.0 if given is not None else reference.own_error(texts, name)
    allowed = allow(name, own, max(largest(c.expected) for c in done), given)
    return Check(make, step, reference, allowed, done, seed, margins, layers)
