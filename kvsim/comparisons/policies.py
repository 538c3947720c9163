"""`kvsim.compare`: the same tokens through several caches, the cost of each, and the distance of its logits from those
of a cache that keeps every row.

All caches take a step before any takes the next; of a step's logits only two arrays are alive at a time, the
reference's and one other.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvsim.arrays import Array
from kvsim.caches.base import LayerCache, layer_shape
from kvsim.caches.cache import Cache
from kvsim.caches.specs import list_examples, parse_spec
from kvsim.checks import check_list, check_progress
from kvsim.comparisons.agreement import Difference, judge, not_finite, quietly
from kvsim.comparisons.counts import Counts, describe_model, find_length_dependence
from kvsim.comparisons.policies_record import History, LeftOut, PolicyComparison, PolicyRun, PolicyStep, Row
from kvsim.errors import UsageError
from kvsim.generation.lockstep import Pass, run_lockstep
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import Prompt, read_piece, read_pieces
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model
from kvsim.text import Piece

REFERENCE = "dynamic"  # keeps every row
MAX_ROWS = 1_000_000  # whose evictions are recorded, over all caches, layers and heads
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


class Recorder:
    """Makes the `History` of one cache."""

    def __init__(self, model: Model, cache: Cache, n_tokens: int, left_out: LeftOut | None) -> None:
        self._model, self._cache, self._n = model, cache, n_tokens
        self._left_out = left_out
        self._steps: list[PolicyStep] = []
        heads = layer_shape(model.config).n_heads
        size = 0 if left_out else n_tokens
        self._evicted = np.zeros((len(cache.layers), heads, size), dtype=np.int64)

    def add(self, stop: int, counts: Counts) -> None:
        """Record the step after which `stop` tokens are read."""
        cache = self._cache
        self._steps.append(PolicyStep(counts, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes))
        if self._left_out:
            return
        for evicted, layer in zip(self._evicted, cache.layers, strict=True):
            held = self._find_held(layer, stop, evicted.shape[0])
            if held is None or bool((held & (evicted[:, :stop] > 0)).any()):  # a row that returned
                self._left_out = "untold"
                return
            here = evicted[:, :stop]
            here[~held & (here == 0)] = len(self._steps)

    def _find_held(self, layer: LayerCache, stop: int, heads: int) -> Any:
        """Which of the first `stop` rows each head of a layer holds: booleans [G, stop]; None if it does not tell."""
        held, found = layer.held_positions, np.zeros((heads, stop), dtype=bool)
        if held is None:
            return None
        if isinstance(held, tuple):
            for span in held:
                found[:, span.start : span.stop] = True
            return found
        positions = layer.home.backend.to_host(held)
        np.put_along_axis(found, positions, True, axis=1)
        return found

    def finish(self) -> History:
        """The history of all steps."""
        evicted = None
        if not self._left_out:
            evicted = tuple(tuple(tuple(row) for row in layer) for layer in self._evicted.tolist())
        return History(tuple(self._steps), evicted, self._left_out)


class _Tally:
    """One cache's run so far."""

    def __init__(self, cache: Cache, recorder: Recorder | None = None) -> None:
        self.cache, self.recorder = cache, recorder
        self.counts: list[Counts] = []
        self.rows: list[Row] = []
        self.agrees = True

    def add(self, model: Model, done: Pass, stop: int) -> None:
        """Take a step's pass, after which `stop` tokens are read."""
        self.counts.append(Counts.of(done.ledger))
        if self.recorder is not None:
            self.recorder.add(stop, self.counts[-1])
        if isinstance(done.logits, _Compared):  # not the reference's own
            self.rows += done.logits.rows
            self.agrees &= judge(model.ops, done.logits.difference, done.ledger).agrees

    def finish(self) -> PolicyRun:
        """The run as a record."""
        cache = self.cache
        return PolicyRun(
            cache.spec, cache.lossless, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes,
            Counts.sum(self.counts), tuple(self.rows), self.agrees,
            None if self.recorder is None else self.recorder.finish(),
        )  # fmt: skip


def _plan_tallies(model: Model, caches: Sequence[Cache], n_tokens: int, history: bool) -> list[_Tally]:
    """A tally of each cache; with `history` a recorder in each, which all leave out the rows if there are more than
    MAX_ROWS."""
    rows = n_tokens * model.config.n_layers * layer_shape(model.config).n_heads * len(caches)
    left_out: LeftOut | None = "rows" if rows > MAX_ROWS else None
    return [_Tally(cache, Recorder(model, cache, n_tokens, left_out) if history else None) for cache in caches]


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


def _read_choices(model: Model, new: list[int], runs: list[PolicyRun]) -> tuple[Piece, ...]:
    """The tokens that any cache chose at any position, each once."""
    return tuple(read_piece(model, i) for i in dict.fromkeys([*new, *(row.choice for run in runs for row in run.rows)]))


def _open(model: str | Path | Model, backend: str | None, device: str | None, dtype: str) -> Model:
    """The model, loaded. UsageError: it has an encoder. Otherwise as `kvsim.load`."""
    if not isinstance(model, Model):
        model = load(model, backend=backend, device=device, dtype=dtype)
    if model.config.encoder is not None:
        raise UsageError("compare supports no model with an encoder: use kvsim.generate for {model}", model=model.name)
    return model


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
    history: bool = False,
    progress: Progress | None = None,
) -> PolicyComparison:
    """The same tokens through each of `caches` (specs; None: an example of every lossy policy) and through the
    reference, a `dynamic` cache in the same dtype: the prompt (text or ids), then the reference's choices.

    The prompt is fed as `feed` says; a policy that evicts rows after each step evicts more often when steps are
    smaller. Every fed position is compared. `model` is a name, a folder, or a loaded Model (whose backend and dtype
    then apply). With `history` every run also records each step: counts, bytes, and which rows the cache keeps (as
    `History` says). `progress(done, total)` is called after every step.

    UsageError: an empty text, an unknown cache or feed, a model with an encoder, more tokens than the context or a
    cache holds. KvsimError: logits that are not finite. Otherwise as `kvsim.load`.
    """
    check_progress(progress)
    model = _open(model, backend, device, dtype)
    held = [model.new_cache(spec) for spec in _list_specs(model, caches)]
    prompt = read_pieces(model, text)
    ids = [piece.id for piece in prompt]
    max_new_tokens = check_room(model, held, len(ids), max_new_tokens)
    stops = plan_stops(len(ids), max_new_tokens, feed)
    tallies = _plan_tallies(model, held, stops[-1], history)
    logits, new = _Reference(model), list[int]()
    for turn in quietly(run_lockstep(model, ids, held, max_new_tokens, feed, Sampler(), keep=logits.compare)):
        new += [turn.next] if turn.new else []
        logits.read(turn.passes[0].logits)  # also where there is no other cache
        for tally, done in zip(tallies, turn.passes, strict=True):
            tally.add(model, done, stops[turn.number - 1])
        if progress is not None:
            progress(turn.number, len(stops))
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
        stops=tuple(stops),
        choices=_read_choices(model, new, runs) if history else (),
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
