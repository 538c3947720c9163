"""Beam search: of all continuations of the beams, keep the likeliest. Sums of log-probabilities, no length penalty.

A step keeps the `width` best of (beam, next token) by the sum of log-probabilities, computed on the host in float64;
ties go to the beam that ranks first, then to the smaller id. A continuation that reaches a stop is finished and keeps
one of the `width` places; the search ends when as many are finished as there are beams, or at the last token. Beams
share no row that one of them writes: a cache that continues in two beams is forked.
"""

from typing import NamedTuple

import numpy as np

from kvsim.arrays import Array
from kvsim.caches.cache import select
from kvsim.errors import KvsimError
from kvsim.generation.options import GenerationOptions, count_if
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import Prompt, Start, join_text, start_run
from kvsim.generation.runs import Beam, Run, Step, sum_ledger
from kvsim.generation.stopping import Stopping
from kvsim.model import Model


class Candidate(NamedTuple):
    """A beam's continuation by one token."""

    beam: int
    id: int
    score: float  # sum of log-probabilities, the new token's included


def log_softmax(logits_V: np.ndarray) -> np.ndarray:
    """log softmax(logits) [V] in float64."""
    wide = logits_V.astype(np.float64)
    wide = wide - wide.max()
    return np.asarray(wide - np.log(np.exp(wide).sum()))


def best_candidates(scores: list[float], rows: list[np.ndarray], count: int) -> list[Candidate]:
    """The `count` best continuations, best first, of beams with `scores` and log-probabilities `rows` [V] each."""
    every: list[Candidate] = []
    for beam, (score, row) in enumerate(zip(scores, rows, strict=True)):
        total = score + row
        order = np.argsort(-total, kind="stable")[:count]
        every += [Candidate(beam, int(i), float(total[i])) for i in order]
    return sorted(every, key=lambda c: (-c.score, c.beam, c.id))[:count]


class _Search:
    """The beams so far, and the steps that led there."""

    def __init__(self, model: Model, start: Start, options: GenerationOptions) -> None:
        self.model, self.start, self.options = model, start, options
        self.stopping = Stopping(model, options.stop)
        self.caches = [model.new_cache(options.cache)]
        self.texts, self.scores = [list(start.ids)], [0.0]
        self.finished: list[tuple[list[int], float]] = []  # texts that reached a stop, and their scores
        self.steps: list[Step] = []
        self.fed = 0

    def take_step(self, stop: int) -> bool:
        """Feed every beam up to `stop` tokens and continue the best; False: every beam is finished."""
        with count_if(self.model, self.options.count) as ledger:
            out = self._feed(stop)
        rows = self._log_probs(out)
        new = tuple(i for text in self.texts for i in text[self.fed : stop])
        self.fed = stop
        best = best_candidates(self.scores, rows, self.options.beams - len(self.finished))
        events = tuple(ledger.events) if self.steps else (*self.start.events, *ledger.events)
        self.steps.append(Step(len(self.steps) + 1, new, best[0].id, events))
        return stop < len(self.start.ids) or self._continue(best)

    def _feed(self, stop: int) -> list[Array]:
        """The logits [T, V] of each beam's next step."""
        logits = self.options.logits
        if self.fed == 0 and self.start.source is not None:
            ids = self.texts[0][:stop]
            return [self.model(ids, self.caches[0], logits=logits, encoder_states=self.start.source)]
        pairs = zip(self.texts, self.caches, strict=True)
        return self.model.batch([(text[cache.seen : stop], cache) for text, cache in pairs], logits=logits)

    def _log_probs(self, out: list[Array]) -> list[np.ndarray]:
        """The log-probabilities [V] of each beam's next token, on the host. KvsimError: NaN among the logits."""
        with self.model.ops.running():
            rows = [log_softmax(self.model.ops.backend.to_host(logits_TV[-1, :])) for logits_TV in out]
        if any(np.isnan(row).any() for row in rows):
            raise KvsimError("the logits hold NaN: the computation overflowed; use a wider dtype")
        return rows

    def _continue(self, best: list[Candidate]) -> bool:
        """Replace the beams by the best candidates; those that reach a stop are finished. False: no beam is left."""
        alive = []
        for candidate in best:
            text = [*self.texts[candidate.beam], candidate.id]
            if self.stopping.reached(text[len(self.start.ids) :]):
                self.finished.append((text, candidate.score))
            else:
                alive.append((candidate, text))
        if alive:
            self.caches = select(self.caches, [candidate.beam for candidate, _ in alive])
        self.texts, self.scores = [text for _, text in alive], [candidate.score for candidate, _ in alive]
        return bool(alive)

    def to_run(self, prompt: Prompt) -> Run:
        """The likeliest beam as a run."""
        n_prompt = len(self.start.ids)
        found = sorted([*self.finished, *zip(self.texts, self.scores, strict=True)], key=lambda beam: -beam[1])
        beams = tuple(
            Beam(text[n_prompt:], join_text(self.model, prompt, text, text[n_prompt:]), score) for text, score in found
        )
        ids, best = [*self.start.ids, *beams[0].new_ids], beams[0]
        return Run(ids, best.new_ids, best.text, self.steps, sum_ledger(self.steps), self.caches[0], beams=beams)


def search_beams(model: Model, prompt: Prompt, options: GenerationOptions) -> Run:
    """The likeliest of `options.beams` beams as a run; `run.beams` has all of them, best first. A step's events are
    those of all beams.

    UsageError: as `generate`. KvsimError: logits that are NaN.
    """
    start = start_run(model, prompt, options.count)
    search = _Search(model, start, options)
    check_room(model, search.caches, len(start.ids), options.max_new_tokens)
    for stop in plan_stops(len(start.ids), options.max_new_tokens, options.feed):
        if not search.take_step(stop):
            break
    return search.to_run(prompt)
