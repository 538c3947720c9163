"""Several caches fed with the same tokens, step by step: what `kvsim.trace`, `compare` and `Conversation` run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.counting.ledger import Ledger
from kvsim.counting.seen import Seen
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.sampling import Sampler
from kvsim.model import Model


class Pass(NamedTuple):
    """One cache's part of a step."""

    logits: Any  # [T, V] of all tokens the model was fed, or what `keep` made of them
    ledger: Ledger
    seen: Seen  # the arrays at the places that were watched


class Lockstep(NamedTuple):
    """One step of all caches."""

    number: int  # from 1
    fed: tuple[int, ...]  # the ids that the step adds to the text
    next: int  # chosen from the first cache's logits
    new: bool  # True: the prompt has ended, and `next` was appended to the text
    passes: tuple[Pass, ...]  # one for each cache


def _watch(model: Model, patterns: tuple[str, ...]) -> AbstractContextManager[Seen]:
    """A watcher, or an empty one that nothing is shown to if there are no patterns: it would cost every step."""
    return model.ops.watch(*patterns) if patterns else nullcontext(Seen(()))


def run_lockstep(
    model: Model,
    prompt: Sequence[int],
    caches: Sequence[Cache],
    max_new_tokens: int,
    feed: str,
    sampler: Sampler,
    keep: Callable[[Array, Array], Any] | None = None,
    watch: Callable[[], tuple[str, ...]] = tuple,
) -> Iterator[Lockstep]:
    """The steps of `prompt` and `max_new_tokens` more, every cache fed the same tokens; a cache that has already seen
    a beginning of the prompt is fed the rest.

    `keep(first, logits)` is what passes after the first hold in place of their logits [T, V] (`first`: those of the
    first cache), so that few arrays of logits are alive at a time. `watch()` is called before each step: the patterns
    of the places to watch in it.

    UsageError: an unknown feed, or more tokens than the context or a cache holds.
    """
    check_room(model, caches, len(prompt), max_new_tokens)
    ids, start = list(prompt), 0
    for number, stop in enumerate(plan_stops(len(prompt), max_new_tokens, feed), start=1):
        passes: list[Pass] = []
        patterns = watch()
        for cache in caches:
            with model.ops.count() as ledger, _watch(model, patterns) as seen:
                logits_TV = model(ids[cache.seen : stop], cache)
            kept = logits_TV if keep is None or not passes else keep(passes[0].logits, logits_TV)
            passes.append(Pass(kept, ledger, seen))
            del logits_TV, kept  # not held while the next cache's logits are computed
        chosen = sampler.choose(model.ops, passes[0].logits[-1, :], stop)
        new = stop == len(ids)
        if new:
            ids.append(chosen)
        yield Lockstep(number, tuple(ids[start:stop]), chosen, new, tuple(passes))
        start = stop
