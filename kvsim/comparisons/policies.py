"""`kvsim.compare`: the same tokens through several caches, the cost of each, and the distance of its logits from those
of a cache that keeps every row.

All caches take a step before any takes the next; of a step's logits only two arrays are alive at a time, the
reference's and one other.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.caches.specs import list_examples, parse_spec
from kvsim.checks import check_list, check_progress
from kvsim.comparisons.agreement import Difference, judge, not_finite, quietly
from kvsim.comparisons.counts import Counts, describe_model, find_length_dependence
from kvsim.comparisons.policies_record import PolicyComparison, PolicyRun, Row
from kvsim.errors import UsageError
from kvsim.generation.lockstep import Pass, run_lockstep
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import Prompt, read_piece, read_pieces
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model

REFERENCE = "dynamic"  # keeps every row
_AT_ONCE = 2**18  # logits held in float64 at a time

Progress = Callable[[int, int], None]  # steps done, steps in all


def log_softmax(logits_TV: np.ndarray) -> np.ndarray:
    """log softmax over the vocabulary of float64 logits [T, V]: [T, V]."""
    shifted_TV = logits_TV - logits_TV.max(axis=-1, keepdims=True)
    return np.asarray(shifted_TV - np.log(np.exp(shifted_TV).sum(axis=-1, keepdims=True)))


def compare_rows(wanted_TV: np.ndarray, got_TV: np.ndarray) -> list[Row]:
    """A row for each position: logits `got_TV` of a run compared with the reference's `wanted_TV`, on the host.

    KL(p || q) = Σ p (log p - log q) in nats, computed in float64; a negative sum is rounding and becomes 0. Ties of
    the choice go to the smaller id, as in greedy decoding.
    """
    rows: list[Row] = []
    size = max(1, _AT_ONCE // wanted_TV.shape[-1])
    for start in range(0, wanted_TV.shape[0], size):
        p_TV, q_TV = (np.asarray(x[start : start + size], dtype=np.float64) for x in (wanted_TV, got_TV))
        differences_T = np.abs(p_TV - q_TV).max(axis=-1)
        choices_T, expected_T = q_TV.argmax(axis=-1), p_TV.argmax(axis=-1)
        log_p_TV = log_softmax(p_TV)
        divergences_T = (np.exp(log_p_TV) * (log_p_TV - log_softmax(q_TV))).sum(axis=-1)
        for difference, divergence, choice, expected in zip(
            differences_T, divergences_T, choices_T, expected_T, strict=True
        ):
            rows.append(Row(float(difference), max(0.0, float(divergence)), int(choice), bool(choice == expected)))
    return rows


class _Compared(NamedTuple):
    """What is kept of a pass: its new positions compared with the reference's."""

    rows: list[Row]
    difference: Difference


class _Reference:
    """The reference's logits, copied to the host once a step, and every other pass compared with them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.largest = 0.0  # max|logit| so far
        self._seen: Array | None = None
        self._host_TV: np.ndarray
        self._scale = 0.0  # max|logit| in this step

    def _to_host(self, logits: Array) -> np.ndarray:
        """KvsimError: a logit that is not finite."""
        with self.model.ops.running():
            host: np.ndarray = self.model.ops.backend.to_host(logits)
        if not np.isfinite(host).all():
            raise not_finite(self.model)
        return host

    def read(self, logits: Array) -> np.ndarray:
        """The reference's logits [T, V] of this step, on the host."""
        if self._seen is not logits:
            self._seen, self._host_TV = logits, self._to_host(logits)
            self._scale = float(np.abs(self._host_TV).max())
            self.largest = max(self.largest, self._scale)
        return self._host_TV

    def compare(self, reference: Array, logits: Array) -> _Compared:
        """The last T rows of a pass's logits compared: a cache that keeps nothing has computed earlier positions
        again."""
        wanted_TV, got_TV = self.read(reference), self._to_host(logits)
        got_TV = got_TV[got_TV.shape[0] - wanted_TV.shape[0] :, :]
        rows = compare_rows(wanted_TV, got_TV)
        identical = wanted_TV.tobytes() == got_TV.tobytes()
        return _Compared(rows, Difference(max(row.difference for row in rows), self._scale, identical))


class _Tally:
    """One cache's run so far."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.counts: list[Counts] = []
        self.rows: list[Row] = []
        self.agrees = True

    def add(self, model: Model, done: Pass) -> None:
        """Take a step's pass."""
        self.counts.append(Counts.of(done.ledger))
        if isinstance(done.logits, _Compared):  # not the reference's own
            self.rows += done.logits.rows
            self.agrees &= judge(model.ops, done.logits.difference, done.ledger).agrees

    def finish(self) -> PolicyRun:
        """The run as a record."""
        cache = self.cache
        return PolicyRun(
            cache.spec, cache.lossless, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes,
            Counts.sum(self.counts), tuple(self.rows), self.agrees,
        )  # fmt: skip


def choose_caches(model: Model) -> list[str]:
    """The specs compared by default: an example of every lossy policy that fits the model."""

    def fits(spec: str) -> bool:
        policy, options = parse_spec(spec).policy, parse_spec(spec).options
        try:
            policy.check(spec, model.config, model.ops, options)
        except UsageError:
            return False
        return not policy.is_lossless(model.config, options)

    return [spec for spec in list_examples() if fits(spec)]


def compare(
    text: Prompt,
    model: str | Path | Model = "demo",
    caches: str | Iterable[str] | None = None,
    max_new_tokens: int = 16,
    feed: str = "prefill",
    *,
    backend: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> PolicyComparison:
    """The same tokens through each of `caches` (specs; None: an example of every lossy policy) and through the
    reference, a `dynamic` cache in the same dtype: the prompt (text or ids), then the reference's choices.

    The prompt is fed as `feed` says; a policy that evicts rows after each step evicts more often when steps are
    smaller. Every fed position is compared. `model` is a name, a folder, or a loaded Model (whose backend and dtype
    then apply). `progress(done, total)` is called after every step.

    UsageError: an empty text, an unknown cache or feed, a model with an encoder, more tokens than the context or a
    cache holds. KvsimError: logits that are not finite. Otherwise as `kvsim.load`.
    """
    check_progress(progress)
    if not isinstance(model, Model):
        model = load(model, backend=backend, device=device, dtype=dtype)
    if model.config.encoder is not None:
        raise UsageError("compare supports no model with an encoder: use kvsim.generate for {model}", model=model.name)
    tallies = [_Tally(model.new_cache(spec)) for spec in _list_specs(model, caches)]
    prompt = read_pieces(model, text)
    ids, held = [piece.id for piece in prompt], [tally.cache for tally in tallies]
    max_new_tokens = check_room(model, held, len(ids), max_new_tokens)
    n_steps = len(plan_stops(len(ids), max_new_tokens, feed))
    logits, new = _Reference(model), list[int]()
    for turn in quietly(run_lockstep(model, ids, held, max_new_tokens, feed, Sampler(), keep=logits.compare)):
        if turn.new:
            new.append(turn.next)
        logits.read(turn.passes[0].logits)  # also where there is no other cache
        for tally, done in zip(tallies, turn.passes, strict=True):
            tally.add(model, done)
        if progress is not None:
            progress(turn.number, n_steps)
    reference, *runs = [tally.finish() for tally in tallies]
    return PolicyComparison(
        text=text if isinstance(text, str) else None,
        prompt=prompt,
        new=tuple(read_piece(model, i) for i in new),
        feed=feed,
        model=describe_model(model),
        backend=model.backend,
        dtype=model.dtype,
        reference=reference,
        runs=tuple(runs),
        largest_logit=logits.largest,
        by_length=find_length_dependence(model.config),
    )


def _list_specs(model: Model, caches: str | Iterable[str] | None) -> list[str]:
    """The reference's spec and then those of `caches`, each once. UsageError: an unknown cache."""
    asked = (
        choose_caches(model)
        if caches is None
        else [caches]
        if isinstance(caches, str)
        else check_list("caches", caches)
    )
    specs = [str(parse_spec(spec)) for spec in asked]
    return [REFERENCE, *(spec for spec in dict.fromkeys(specs) if spec != REFERENCE)]
