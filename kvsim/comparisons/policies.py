"""The same tokens through several caches: what each costs, and how far its logits are from those of a run that keeps
every row.

`kvsim.compare` runs them in lockstep, a step of all caches at a time; of a step's logits two arrays are alive, the
reference's and one other. `kvsim.comparisons.policies_record` has what it answers with.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kvsim.arrays import Array
from kvsim.caches import POLICIES, parse_spec
from kvsim.caches.cache import Cache
from kvsim.comparisons.policies_record import PolicyComparison, PolicyRun, Row
from kvsim.comparisons.trace import allowed_difference, describe_model, find_length_dependence, quietly
from kvsim.comparisons.trace_record import Counts
from kvsim.errors import KvsimError, UsageError
from kvsim.generation.lockstep import run_lockstep
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import Prompt, read_piece, read_pieces
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model

REFERENCE = "dynamic"  # keeps every row
_AT_ONCE = 2**18  # logits that are on the host in float64 at a time

Progress = Callable[[int, int], None]  # steps done, steps in all


def log_softmax(logits_TV: np.ndarray) -> np.ndarray:
    """Of float64 logits, over the vocabulary: [T, V]."""
    shifted_TV = logits_TV - logits_TV.max(axis=-1, keepdims=True)
    return np.asarray(shifted_TV - np.log(np.exp(shifted_TV).sum(axis=-1, keepdims=True)))


def compare_rows(wanted_TV: np.ndarray, got_TV: np.ndarray) -> list[Row]:
    """Each position of a run beside the reference's, on the host. KL(p || q) = Σ p (log p - log q), in float64; what
    rounding leaves below zero is zero. Ties go to the smaller id, as in greedy decoding."""
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


class _Beside(NamedTuple):
    """What is kept of a pass: its new positions beside the reference's."""

    rows: list[Row]
    identical: bool  # bit for bit


class _Watch:
    """Holds each pass against the reference's of the same step, whose logits come to the host once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.largest = 0.0  # max|logit| of the reference so far
        self.step = 0.0  # and in this step
        self._seen: Array | None = None

    def _to_host(self, logits: Array) -> np.ndarray:
        with self.model.ops.running():
            host: np.ndarray = self.model.ops.backend.to_host(logits)
        if not np.isfinite(host).all():
            raise KvsimError("the logits are not finite in {dtype}: use a wider dtype", dtype=self.model.dtype)
        return host

    def reference(self, logits: Array) -> np.ndarray:
        """The reference's logits [T, V] of this step."""
        if self._seen is not logits:
            self._seen, self._host = logits, self._to_host(logits)
            self.step = float(np.abs(self._host).max())
            self.largest = max(self.largest, self.step)
        return self._host

    def keep(self, reference: Array, logits: Array) -> _Beside:
        """A cache that keeps nothing has computed earlier positions again: the last rows are the new ones."""
        wanted_TV, got_TV = self.reference(reference), self._to_host(logits)
        got_TV = got_TV[got_TV.shape[0] - wanted_TV.shape[0] :, :]
        return _Beside(compare_rows(wanted_TV, got_TV), wanted_TV.tobytes() == got_TV.tobytes())


class _Tally:
    """One cache's run so far."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.counts: list[Counts] = []
        self.rows: list[Row] = []
        self.agrees = True

    def finish(self) -> PolicyRun:
        cache = self.cache
        return PolicyRun(
            cache.spec, cache.lossless, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes,
            Counts.sum(self.counts), tuple(self.rows), self.agrees,
        )  # fmt: skip


def choose_caches(model: Model) -> list[str]:
    """An example of every lossy policy that fits the model."""

    def fits(spec: str) -> bool:
        policy, options = parse_spec(spec).policy, parse_spec(spec).options
        try:
            policy.check(spec, model.config, model.ops, options)
        except UsageError:
            return False
        return not policy.is_lossless(model.config, options)

    return [policy.example for policy in POLICIES.values() if fits(policy.example)]


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
    reference, a `dynamic` cache in the same dtype: the prompt (text or ids), then what the reference chooses.

    The prompt is fed as `feed` says; a policy that lets rows go after a step does so the more often the smaller the
    steps. Every fed position is compared. `model` is a name, a folder, or a loaded Model (whose backend and dtype then
    hold).

    UsageError: an empty text, an unknown cache or feed, more tokens than the context or a cache holds.
    KvsimError: logits that are not finite.
    """
    if not isinstance(model, Model):
        model = load(model, backend=backend, device=device, dtype=dtype)
    if model.config.encoder is not None:
        raise UsageError("compare shows models without an encoder: use kvsim.generate for {model}", model=model.name)
    asked = choose_caches(model) if caches is None else [caches] if isinstance(caches, str) else caches
    wanted = [str(parse_spec(spec)) for spec in asked]
    specs = [REFERENCE, *(spec for spec in dict.fromkeys(wanted) if spec != REFERENCE)]
    prompt = read_pieces(model, text)
    ids = [piece.id for piece in prompt]
    tallies = [_Tally(model.new_cache(spec)) for spec in specs]
    held = [tally.cache for tally in tallies]
    check_room(model, held, len(ids), max_new_tokens)
    n_steps = len(plan_stops(len(ids), max_new_tokens, feed))
    watch, new, n_fed = _Watch(model), list[int](), 0
    turns = run_lockstep(model, ids, held, max_new_tokens, feed, Sampler(), keep=watch.keep)
    for turn in quietly(turns):
        n_fed += len(turn.fed)
        if n_fed >= len(ids):
            new.append(turn.next)
        watch.reference(turn.passes[0].logits)  # where there is no other cache
        for tally, done in zip(tallies, turn.passes, strict=True):
            tally.counts.append(Counts.of(done.ledger))
            if tally is not tallies[0]:
                tally.rows += done.logits.rows
                allowed = 0.0
                if not model.ops.backend.fixed_order:
                    allowed = allowed_difference(model.ops, done.ledger, watch.step)
                most = max(row.difference for row in done.logits.rows)
                tally.agrees &= most <= allowed if allowed else done.logits.identical
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
        largest_logit=watch.largest,
        by_length=find_length_dependence(model.config),
    )
