"""`kvsim.trace`: one generation, run step by step without a cache and with one, over the same tokens."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kvsim.caches.cache import Cache
from kvsim.checks import check_flag, check_progress
from kvsim.comparisons.agreement import check_agreement, quietly
from kvsim.comparisons.counts import Counts, describe_model, find_length_dependence
from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.comparisons.trace_values import Recorder, describe_attention
from kvsim.errors import UsageError
from kvsim.generation.lockstep import Lockstep, Pass, run_lockstep
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import read_piece, read_pieces
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model
from kvsim.text import Piece

Progress = Callable[[int, int], None]  # steps done, steps in all


def trace(
    text: str | list[int],
    model: str | Path | Model = "demo",
    max_new_tokens: int = 4,
    feed: str = "token",
    *,
    cache: str = "dynamic",
    backend: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    values: bool = False,
    progress: Progress | None = None,
) -> Trace:
    """The steps of one generation, run without a cache and with `cache`, side by side.

    Both runs are fed the same tokens: the prompt (`text`, or ids), then the uncached run's choices. `model` is a name,
    a folder, or a loaded Model (whose backend and dtype then apply). `values`: also record what attention computed in
    every step (`Trace.values`), for at most 64 tokens. `progress(done, total)` is called after every step.

    UsageError: a model with an encoder or with attention in blocks, a lossy cache. Otherwise as `kvsim.load` and
    `kvsim.generate`. KvsimError: logits that are not finite.
    """
    if isinstance(model, Model) and model.config.encoder is not None:
        raise UsageError("trace supports no model with an encoder: use kvsim.generate for {model}", model=model.name)
    sampler = Sampler(temperature, top_k, top_p, seed)
    check_progress(progress)
    check_flag("values", values)
    model = model if isinstance(model, Model) else load(model, backend=backend, device=device, dtype=dtype)
    caches = _make_caches(model, cache)
    prompt = read_pieces(model, text)
    ids = [piece.id for piece in prompt]
    max_new_tokens = check_room(model, caches, len(ids), max_new_tokens)
    stops = plan_stops(len(ids), max_new_tokens, feed)
    recorder = Recorder(model, stops[-1]) if values else None
    watch = (lambda: recorder.patterns) if recorder else tuple
    steps: list[TraceStep] = []
    turns = quietly(run_lockstep(model, ids, caches, max_new_tokens, feed, sampler, watch=watch))
    for step in _compare_steps(model, prompt, caches, turns, recorder):
        steps.append(step)
        if progress is not None:
            progress(len(steps), len(stops))
    return Trace(
        text=text if isinstance(text, str) else None,
        prompt=prompt,
        new=tuple(step.next for step in steps[-max_new_tokens:]),
        feed=feed,
        cache=caches[1].spec,
        steps=tuple(steps),
        values=recorder.finish() if recorder else None,
        values_left_out=recorder.left_out if recorder else None,
        **_describe(model),
    )


def _describe(model: Model) -> dict[str, Any]:
    """What a trace says about its model and backend."""
    return {
        "model": describe_model(model),
        "backend": model.backend,
        "dtype": model.dtype,
        "item_bytes": model.ops.item_bytes,
        "fixed_order": model.ops.backend.fixed_order,
        "by_length": find_length_dependence(model.config),
        "windows": tuple(kind.window for kind in model.config.layers),
        "attention": describe_attention(model.config),
    }


def _make_caches(model: Model, cache: str) -> list[Cache]:
    """The two caches of a trace, "none" and `cache`. UsageError: blocked attention, or a lossy cache."""
    if model.attention != "square":
        raise UsageError(
            "trace shows the full square of scores: load {model} with attention='square'", model=model.name
        )
    caches = [model.new_cache("none"), model.new_cache(cache)]
    if not caches[1].lossless:
        raise UsageError(
            "trace compares the cached logits with the uncached ones, and the cache {spec} is lossy: use kvsim compare",
            spec=caches[1].spec,
        )
    return caches


def _compare_steps(
    model: Model, prompt: Iterable[Piece], caches: list[Cache], turns: Iterable[Lockstep], recorder: Recorder | None
) -> Iterator[TraceStep]:
    """The steps of both runs, compared; their values, if wanted, go to `recorder`."""
    unfed, stop = deque(prompt), 0
    for turn in turns:
        fed, chosen = tuple(unfed.popleft() for _ in turn.fed), read_piece(model, turn.next)
        if turn.new:
            unfed.append(chosen)
        full, part = turn.passes
        stop += len(fed)
        if recorder is not None:
            recorder.add(stop, {"no_cache": full.seen, "cached": part.seen})
        agreement = check_agreement(model, full.logits, part.logits, full.ledger)
        no_cache, cached = (_side(cache, done) for cache, done in zip(caches, turn.passes, strict=True))
        yield TraceStep(turn.number, fed, chosen, no_cache, cached, agreement)


def _side(cache: Cache, done: Pass) -> Side:
    """One run's part of a step, with its cache as it is now."""
    events = tuple(done.ledger.events)
    return Side(Counts.of(done.ledger), cache.seen, cache.logical_bytes, cache.allocated_bytes, events)
