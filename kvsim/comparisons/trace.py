"""The same generation twice, with and without a cache, side by side.

The numbers of a `Trace` are read from the two runs' ledgers, caches and logits.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from kvsim.arrays import Array
from kvsim.caches.cache import Cache
from kvsim.comparisons.trace_record import Counts, Side, Trace, TraceStep
from kvsim.config import Config
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.errors import KvsimError, UsageError
from kvsim.generation.lockstep import Lockstep, run_lockstep
from kvsim.generation.plan import check_room, plan_stops
from kvsim.generation.prompts import read_piece, read_pieces
from kvsim.generation.sampling import Sampler
from kvsim.loading.loader import load
from kvsim.model import Model
from kvsim.ops import Ops
from kvsim.transformer.rotary import depends_on_length

Progress = Callable[[int, int], None]  # steps done, steps in all


# Products that stand side by side, each by the one that stands for them on the way from ids to logits.
_BESIDE = {"key": "query", "value": "query", "gate": "up"}


def allowed_difference(ops: Ops, events: Iterable[MatMul], largest: float) -> float:
    """How far two right runs may differ by rounding: 16 · eps · max|logit| · √Σk.

    A sum of k products rounds to within about √k · eps/2 of its size (Higham and Mary, SIAM J. Sci.
    Comput. 41(5), 2019). The errors of products that follow one another are independent, so their squares
    add: k is summed over the inner sizes on the way from ids to logits, one of the products that stand side
    by side. Two runs make eps; the factor 16 is room for what norms and softmax
    amplify. Of 12,000 tiny models with random weights half stay below 1/35 of this, 99 % below 1/4, and
    six, whose norms divide by almost nothing, go beyond it.
    """
    longest: dict[tuple[str, str], int] = {}
    for event in events:
        place = (event.layer, _BESIDE.get(event.kind, event.kind))
        longest[place] = max(longest.get(place, 0), event.k)
    eps = float(ops.xp.finfo(ops.dtype).eps)
    return 16.0 * eps * largest * math.sqrt(sum(longest.values()))


def compare_logits(ops: Ops, full: Array, part: Array) -> tuple[float, float, bool]:
    """Largest |difference| of `part` [t, V] from the last t rows of `full` [T, V], max|full|, and whether the
    two are equal bit for bit."""
    xp = ops.xp
    same = full[full.shape[0] - part.shape[0] :, :]
    with ops.running():
        difference, largest = float(xp.max(xp.abs(part - same))), float(xp.max(xp.abs(same)))
        identical = difference == 0.0 and _bits(ops, part) == _bits(ops, same)
    return difference, largest, identical


def _bits(ops: Ops, x: Array) -> bytes:
    """What x holds, byte for byte: 0.0 and -0.0 are equal, but not the same."""
    return bytes(ops.backend.to_host(x).tobytes())


def quietly(turns: Iterator[Lockstep]) -> Iterator[Lockstep]:
    """The same turns without NumPy's warnings: what overflows is found in the logits and said once."""
    while True:
        with np.errstate(all="ignore"):
            turn = next(turns, None)
        if turn is None:
            return
        yield turn


def _side(cache: Cache, ledger: Ledger) -> Side:
    return Side(Counts.of(ledger), cache.seen, cache.logical_bytes, cache.allocated_bytes, tuple(ledger.events))


def describe_model(model: Model) -> dict[str, str | int]:
    """What a heading tells of a model."""
    config = model.config
    return {
        "name": model.name,
        "layers": config.n_layers,
        "heads": config.n_heads,
        "kv_heads": config.n_kv_heads,
        "d_head": config.d_head,
    }


def find_length_dependence(config: Config) -> str | None:
    """The kind of positions whose frequencies depend on the length, if the model has such: cached keys keep those of
    the length at which they arrived, so that runs differ by how they are cut."""
    return next((kind.rope.kind for kind in config.layers if kind.rope and depends_on_length(kind.rope)), None)


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
    progress: Progress | None = None,
) -> Trace:
    """Generate twice, without a cache and with `cache`, and set both runs side by side.

    Both runs are fed the same tokens: the prompt (`text`, or ids), then what the uncached run
    chooses. `model` is a name, a folder, or a loaded Model (whose backend and dtype then hold).

    Raises what `kvsim.load` and `kvsim.generate` raise.
    """
    if isinstance(model, Model) and model.config.encoder is not None:
        raise UsageError("trace shows models without an encoder: use kvsim.generate for {model}", model=model.name)
    sampler = Sampler(temperature, top_k, top_p, seed)
    if not isinstance(model, Model):
        model = load(model, backend=backend, device=device, dtype=dtype)
    if model.attention != "square":
        raise UsageError("trace shows full squares: load {model} with attention='square'", model=model.name)
    caches = [model.new_cache("none"), model.new_cache(cache)]
    if not caches[1].lossless:
        raise UsageError(
            "trace holds the cached logits against the uncached ones, and the cache {spec} is lossy: use kvsim compare",
            spec=caches[1].spec,
        )
    prompt = read_pieces(model, text)
    ids = [piece.id for piece in prompt]
    check_room(model, caches, len(ids), max_new_tokens)
    n_steps = len(plan_stops(len(ids), max_new_tokens, feed))
    steps: list[TraceStep] = []
    pieces = list(prompt)
    n_fed = 0
    for turn in quietly(run_lockstep(model, ids, caches, max_new_tokens, feed, sampler)):
        full, part = turn.passes
        fed = tuple(pieces[n_fed : n_fed + len(turn.fed)])
        n_fed += len(fed)
        chosen = read_piece(model, turn.next)
        if n_fed >= len(ids):
            pieces.append(chosen)
        difference, largest, identical = compare_logits(model.ops, full.logits, part.logits)
        if not math.isfinite(difference):
            raise KvsimError("the logits are not finite in {dtype}: use a wider dtype", dtype=model.dtype)
        allowed = 0.0
        if not model.ops.backend.fixed_order:
            allowed = allowed_difference(model.ops, full.ledger, largest)
        sides = [_side(held, done.ledger) for held, done in zip(caches, turn.passes, strict=True)]
        steps.append(TraceStep(turn.number, fed, chosen, sides[0], sides[1], difference, allowed, identical))
        if progress is not None:
            progress(turn.number, n_steps)
    return Trace(
        text=text if isinstance(text, str) else None,
        prompt=prompt,
        new=tuple(pieces[len(ids) :]),
        feed=feed,
        cache=caches[1].spec,
        model=describe_model(model),
        backend=model.backend,
        dtype=model.dtype,
        item_bytes=model.ops.item_bytes,
        steps=tuple(steps),
        fixed_order=model.ops.backend.fixed_order,
        by_length=find_length_dependence(model.config),
    )
