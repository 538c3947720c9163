"""`generate`: continue prompts, by plain decoding, beam search or speculative decoding."""

from collections.abc import Sequence
from typing import Any, Unpack, overload

from kvsim.checks import check_whole
from kvsim.errors import UsageError
from kvsim.generation.batches import generate_together
from kvsim.generation.options import GenerateKeywords, GenerationOptions
from kvsim.generation.prompts import Prompt, check_model, list_prompts
from kvsim.generation.runs import Run
from kvsim.generation.sampling import Sampler
from kvsim.generation.stopping import Stop
from kvsim.model import Logits, Model


@overload
def generate(  # type: ignore[overload-overlap]  # a str is also a sequence of str
    model: Model, prompt: str | Sequence[int], max_new_tokens: int = ..., **options: Unpack[GenerateKeywords]
) -> Run: ...


@overload
def generate(
    model: Model,
    prompt: Sequence[str] | Sequence[Sequence[int]],
    max_new_tokens: int = ...,
    **options: Unpack[GenerateKeywords],
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
    """Continue `prompt` (text, ids, or for audio features [mels, frames]; a list of prompts gives a list of runs) by
    `max_new_tokens`. The prompts of a list take their steps together, `at_once` of them at a time (None: all; the next
    joins when one ends); a run's events are then those of the whole batch.

    The prompt is fed as `feed` says ("token", "prefill", "chunk:K") through a new cache of the policy `cache` ("none",
    "dynamic", "static:N", ...). A run ends early only at `stop`: an id, a text, or a list of these.
    Every step records its products (`count=False`: none), with `keep_logits=True` its last logits [V]; the head
    computes all positions of a step (`logits="last"`: only the last). Greedy decoding unless `temperature` is above 0.
    `beams`: beam search with that many (`kvsim.generation.beams`). `draft`: a model or "ngram:N" guesses
    `draft_tokens` at a time, which `model` reads in one step (`kvsim.generation.speculation`): the same tokens in
    fewer steps.

    UsageError: an empty prompt, an unknown cache or feed, an option out of range, more tokens than the context or the
    cache holds. KvsimError: logits that are NaN.
    """
    options = GenerationOptions(
        max_new_tokens=max_new_tokens, cache=cache, feed=feed, stop=stop, keep_logits=keep_logits, count=count,
        logits=logits, sampler=Sampler(temperature, top_k, top_p, seed), beams=beams, draft=draft,
        draft_tokens=draft_tokens, at_once=at_once,
    )  # fmt: skip
    check_model(model)
    prompts, several = list_prompts(model, prompt)
    runs = _run(model, prompts, options)
    return runs if several else runs[0]


def _run(model: Model, prompts: list[Prompt], options: GenerationOptions) -> list[Run]:
    """A run for each prompt, by the method that the options name. UsageError: options that exclude each other."""
    width = check_whole("beams", options.beams, 1, model.config.vocab_size)
    if options.draft is not None or width != 1:
        from kvsim.generation.beams import search_beams
        from kvsim.generation.speculation import speculate

        if width > 1 and (options.draft is not None or options.sampler.temperature > 0.0 or options.keep_logits):
            raise UsageError("beams cannot be combined with a temperature above 0, draft or keep_logits")
        method = search_beams if options.draft is None else speculate
        return [method(model, prompt, options) for prompt in prompts]
    if model.config.encoder is None:
        return generate_together(model, prompts, options)
    return [run for prompt in prompts for run in generate_together(model, [prompt], options)]
