"""The loop: feed what the cache has not seen, choose, repeat.

`run_lockstep` drives any number of caches over the same tokens; `generate` is the loop with one of
them, `kvsim.trace` with two.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypedDict, Unpack, overload

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError
from kvsim.generation.runs import Prompt, Run, Step, check_room, encode_prompt, join_text, plan_stops, start_run
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stop, Stopping
from kvsim.model import Logits, Model


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
            with model.ops.count() if count else nullcontext(Ledger()) as ledger:
                new = ids[cache.seen : stop]
                made = model(new, cache, logits=logits, encoder_states=source)
            passes.append(Pass(made if keep is None or not passes else keep(passes[0].logits, made), ledger))
            del made  # not held while the next cache's are computed
        chosen = sampler.choose(model.ops, passes[0].logits[-1, :], stop)
        if stop == len(ids):
            ids.append(chosen)
        yield Lockstep(number, tuple(ids[start:stop]), chosen, tuple(passes))
        start = stop


def _generate(
    model: Model, prompt: Prompt, max_new_tokens: int, cache: str, feed: str, stop: Stop | None,
    keep_logits: bool, count: bool, logits: Logits, sampler: Sampler,
) -> Run:  # fmt: skip
    held = model.new_cache(cache)
    stopping = Stopping(model, stop)
    steps: list[Step] = []
    ledger = Ledger()
    ids, source, first = start_run(model, prompt, count)
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


def _specially(
    model: Model, max_new_tokens: int, cache: str, feed: str, stop: Stop | None, keep_logits: bool, count: bool,
    logits: Logits, sampler: Sampler, beams: int, draft: Any, draft_tokens: int,
) -> Callable[[Prompt], Run]:  # fmt: skip
    """What goes on from a prompt by beams, or by guesses. UsageError: options that do not go together."""
    from kvsim.generation.beams import check_width, search_beams
    from kvsim.generation.speculation import check_size, make_drafter, speculate

    width = check_width(beams, model.config.vocab_size)
    if width > 1 and (draft is not None or sampler.temperature > 0.0 or keep_logits):
        raise UsageError("beams go with neither a temperature above 0, nor draft, nor keep_logits")

    def run(prompt: Prompt) -> Run:
        start, stopping = start_run(model, prompt, count), Stopping(model, stop)
        if draft is None:
            return search_beams(model, prompt, start, max_new_tokens, cache, feed, stopping, count, logits, width)
        drafter, size = make_drafter(model, draft, sampler), check_size(draft_tokens)
        return speculate(
            model, prompt, start, max_new_tokens, cache, feed, stopping, keep_logits, count, sampler, drafter, size
        )

    return run


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
    beams: int
    draft: Any
    draft_tokens: int
    at_once: int | None


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
    beams: int = 1,
    draft: Any = None,
    draft_tokens: int = 4,
    at_once: int | None = None,
) -> Run | list[Run]:
    """Continue `prompt` (text, ids, or a list of either: a list of runs) by `max_new_tokens`. The prompts of a
    list go through their steps together, `at_once` of them at a time (all by default; the next joins when one
    leaves); a run's events are then those of the whole batch.

    The prompt is fed as `feed` says ("token", "prefill", "chunk:K"), through a fresh cache ("none",
    "dynamic", "static:N"). The run ends early only at `stop`: an id, a text, or a list of these.
    Every step records its products (`count=False`: none), the head on all positions it was fed
    (`logits="last"`: on the last). Greedy unless `temperature` is above 0. `beams`: search with so many
    (`kvsim.generation.beams`). `draft`: a model or "ngram:N" guesses `draft_tokens` at a time, which `model` reads in
    one step (`kvsim.generation.speculation`): the same tokens in fewer steps.

    UsageError: an empty prompt, an unknown cache or feed, more tokens than the context or the cache holds.
    """
    sampler = Sampler(temperature, top_k, top_p, seed)
    whole = isinstance(prompt, str) or getattr(prompt, "ndim", 1) == 2  # a text, or the features of a sound
    parts: Any = prompt if whole else list(prompt)  # which may be an iterator
    several = not whole and bool(parts) and not any(hasattr(part, "__index__") for part in parts)
    prompts: list[Prompt] = parts if several else [parts]
    if draft is not None or beams != 1 or isinstance(beams, bool):
        one_by_one = _specially(
            model, max_new_tokens, cache, feed, stop, keep_logits, count, logits, sampler, beams, draft, draft_tokens
        )
        found = [one_by_one(one) for one in prompts]
        return found if several else found[0]
    if several and model.config.encoder is None:
        from kvsim.generation.batches import generate_together

        encoded = [(one, encode_prompt(model, one)) for one in prompts]
        stopping = Stopping(model, stop)
        return generate_together(
            model, encoded, max_new_tokens, cache, feed, stopping, keep_logits, count, logits, sampler, at_once
        )
    runs = [
        _generate(model, one, max_new_tokens, cache, feed, stop, keep_logits, count, logits, sampler) for one in prompts
    ]
    return runs if several else runs[0]
