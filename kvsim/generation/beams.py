"""Beam search: of all continuations of the beams, the likeliest go on. Sums of log-probabilities, no length penalty.

A step keeps the `width` best of (beam, next token) by the sum of log-probabilities, computed on the host in float64;
equal ones by the place of the beam, then by the id. What reaches a stop is finished, and takes a place of its own; the
search ends when as many are finished as there are beams, or at the last token. Beams share no rows that one of them
writes: a cache that goes on twice is forked.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from kvsim.caches.cache import select
from kvsim.counting.ledger import Ledger
from kvsim.errors import KvsimError, UsageError, shortened
from kvsim.generation.runs import Beam, Prompt, Run, Start, Step, check_room, join_text, plan_stops
from kvsim.generation.stopping import Stopping
from kvsim.model import Logits, Model


class Candidate(NamedTuple):
    """A beam's continuation by one token."""

    beam: int
    id: int
    score: float


def log_softmax(logits_V: np.ndarray) -> np.ndarray:
    """log softmax(logits) [V] in float64."""
    wide = logits_V.astype(np.float64)
    wide = wide - wide.max()
    return np.asarray(wide - np.log(np.exp(wide).sum()))


def best_candidates(scores: list[float], rows: list[np.ndarray], count: int) -> list[Candidate]:
    """The `count` best continuations of beams with `scores` by log-probabilities `rows` [V] each."""
    every: list[Candidate] = []
    for beam, (score, row) in enumerate(zip(scores, rows, strict=True)):
        total = score + row
        order = np.argsort(-total, kind="stable")[:count]
        every += [Candidate(beam, int(i), float(total[i])) for i in order]
    return sorted(every, key=lambda c: (-c.score, c.beam, c.id))[:count]


def check_width(width: Any, vocabulary: int) -> int:
    """UsageError: no whole number from 1 to the size of the vocabulary."""
    if isinstance(width, bool) or not hasattr(width, "__index__") or not 1 <= width <= vocabulary:
        raise UsageError(
            "beams must be a whole number from 1 to {most}, got {got}", most=vocabulary, got=shortened(width)
        )
    return int(width)


def search_beams(
    model: Model, prompt: Prompt, start: Start, max_new_tokens: int, spec: str, feed: str, stopping: Stopping,
    count: bool, logits: Logits, width: int,
) -> Run:  # fmt: skip
    """The likeliest of `width` beams as a run; `run.beams` has all, best first. A step's events are those of all
    beams."""
    ids, source, first = start
    caches = [model.new_cache(spec)]
    check_room(model, caches, len(ids), max_new_tokens)
    texts, scores = [list(ids)], [0.0]
    finished: list[tuple[list[int], float]] = []
    steps: list[Step] = []
    ledger = Ledger()
    fed = 0
    for stop in plan_stops(len(ids), max_new_tokens, feed):
        with model.ops.count() if count else nullcontext(Ledger()) as counted:
            if fed == 0 and source is not None:
                out = [model(texts[0][:stop], caches[0], logits=logits, encoder_states=source)]
            else:
                pairs = zip(texts, caches, strict=True)
                out = model.batch([(text[cache.seen : stop], cache) for text, cache in pairs], logits=logits)
        with model.ops.running():
            rows = [log_softmax(model.ops.backend.to_host(one[-1, :])) for one in out]
        if any(np.isnan(row).any() for row in rows):
            raise KvsimError("the logits hold NaN: the computation overflowed; use a wider dtype")
        new = tuple(i for text in texts for i in text[fed:stop])
        fed = stop
        best = best_candidates(scores, rows, width - len(finished))
        steps.append(Step(len(steps) + 1, new, best[0].id, (*first, *counted.events)))
        ledger.events += steps[-1].events
        first = ()
        if stop < len(ids):
            continue
        alive = []
        for candidate in best:
            text = [*texts[candidate.beam], candidate.id]
            if stopping.reached(text[len(ids) :]):
                finished.append((text, candidate.score))
            else:
                alive.append((candidate, text))
        if not alive:
            break
        caches = select(caches, [candidate.beam for candidate, _ in alive])
        texts, scores = [text for _, text in alive], [candidate.score for candidate, _ in alive]
    else:
        finished += list(zip(texts, scores, strict=True))
    finished.sort(key=lambda beam: -beam[1])
    beams = tuple(
        Beam(text[len(ids) :], join_text(model, prompt, text, text[len(ids) :]), score) for text, score in finished
    )
    whole = [*ids, *beams[0].new_ids]
    return Run(whole, beams[0].new_ids, beams[0].text, steps, ledger, caches[0], beams=beams)
