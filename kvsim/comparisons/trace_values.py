"""The arrays of attention in every step of a trace: each number once, and where a later step or the other run has
another one.

Under a lossless cache, query 3's score for key 2 is the same number at every step and in both runs, up to rounding. So
the first is stored, and of all later ones those that differ after rounding to 15 significant bits (four decimal
digits): about as many numbers as one step has, not as many as all steps together.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from kvsim.config import Config
from kvsim.counting.seen import Seen
from kvsim.model import Model

PLACES = ("query", "key", "value", "scores", "probs", "context")
MAX_TOKENS = 64  # of a trace whose values are recorded
MAX_NUMBERS = 1_000_000  # stored: four megabytes as text
LeftOut = Literal["tokens", "numbers"]  # why values were asked for and not recorded
Change = tuple[Any, Any]  # indices into a flat array of `TraceValues.first`, and the codes there


class LayerAttention(NamedTuple):
    """What a picture of one layer's scores depends on beside their shapes."""

    scale: float  # scores = scale · QKᵀ
    plain: bool  # probabilities are the softmax of the scores that the mask admits: no cap, bias or sink


def describe_attention(config: Config) -> tuple[LayerAttention, ...]:
    """The facts of every layer."""
    latent = config.latent
    size = config.d_head if latent is None else latent.d_nope + latent.d_rope
    plain = config.score_cap is None and config.alibi is None and config.buckets is None and not config.sinks
    return tuple(LayerAttention(size**-0.5 if kind.scale is None else kind.scale, plain) for kind in config.layers)


def encode(x: Any) -> Any:
    """Numbers as 24-bit codes: float32 rounded to 15 significant bits, to even, without its last byte, which is 0."""
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite here
        bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0xFF + ((bits >> 9) & 1)) >> 9 << 1).astype(np.uint32)


def decode(codes: Any) -> Any:
    """The float32 numbers of 24-bit codes."""
    return (np.asarray(codes, dtype=np.uint32) << 8).view(np.float32)


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class TraceValues:
    """Codes (see `encode`) of what attention computed in both runs of a trace of N tokens.

    `first` holds what was computed first: query and context [H, N, K], key and value [G, N, K], scores and probs
    [H, N, N], under "layers.0.query" and so on. A step of T tokens that sees S rows computed the last T of its queries
    up to `stops[step - 1]`, and the last S keys up to there, except what `changes` has for (step, run, place).
    """

    first: dict[str, Any]
    changes: dict[tuple[int, str, str], Change]
    shapes: dict[tuple[int, str, str], tuple[int, ...]]  # of the arrays of each step, run ("no_cache", "cached"), place
    stops: tuple[int, ...]  # tokens read after each step

    def read(self, step: int, run: str, place: str) -> Any:
        """The numbers of `place` ("layers.0.probs") in one step (from 1) of "no_cache" or "cached": [X, T, K] or
        [H, T, S] as float32, each rounded to 15 significant bits."""
        codes = self.first[place].copy()
        at, new = self.changes.get((step, run, place), ((), ()))
        codes.reshape(-1)[np.asarray(at, dtype=np.int64)] = new
        return decode(codes[_window(self.shapes[step, run, place], self.stops[step - 1], place)])

    def __repr__(self) -> str:
        return f"<TraceValues: {len(self.stops):,} steps, {self.size:,} numbers>"

    @property
    def size(self) -> int:
        """How many numbers are stored."""
        return sum(int(x.size) for x in self.first.values()) + sum(len(at) for at, _ in self.changes.values())


def _window(shape: tuple[int, ...], stop: int, place: str) -> tuple[slice, ...]:
    """Where arrays of `shape` lie in those of all tokens."""
    rows = slice(stop - shape[1], stop)
    square = place.endswith(("scores", "probs"))
    return (slice(None), rows, slice(stop - shape[2], stop) if square else slice(None))


class Recorder:
    """Makes the `TraceValues` of a trace, step by step; `left_out` says why there are none."""

    def __init__(self, model: Model, n_tokens: int) -> None:
        self._model, self._n = model, n_tokens
        self._first: dict[str, Any] = {}
        self._changes: dict[tuple[int, str, str], Change] = {}
        self._shapes: dict[tuple[int, str, str], tuple[int, ...]] = {}
        self._stops: list[int] = []
        self._size = 0
        self.left_out: LeftOut | None = "tokens" if n_tokens > MAX_TOKENS else None

    @property
    def patterns(self) -> tuple[str, ...]:
        """The places to watch in the next step."""
        return () if self.left_out else tuple(f"layers.*.{place}" for place in PLACES)

    def add(self, stop: int, runs: dict[str, Seen]) -> None:
        """Record a step after which `stop` tokens are read, the run without a cache first."""
        if self.left_out:
            return
        self._stops.append(stop)
        for run, seen in runs.items():
            for place, x in seen.items():
                self._add(stop, run, place, self._model.ops.backend.to_host(x))
        if self._size > MAX_NUMBERS:
            self.left_out = "numbers"
            self._first, self._changes = {}, {}

    def _add(self, stop: int, run: str, place: str, x: Any) -> None:
        square = place.endswith(("scores", "probs"))
        codes = encode(x.reshape(-1, *x.shape[-2:]))  # [G, R, ...] to heads
        if place not in self._first:
            shape = (codes.shape[0], self._n, self._n if square else codes.shape[2])
            self._size += codes.shape[0] * self._n * shape[2]
            if self._size > MAX_NUMBERS:
                return
            self._first[place] = np.zeros(shape, dtype=np.uint32)
        first, step = self._first[place], len(self._stops)
        self._shapes[step, run, place] = codes.shape
        before = self._stops[-2] if step > 1 else 0
        if run == "no_cache":  # computes every number, those of new tokens for the first time
            first[:, before:stop, : codes.shape[2]] = codes[:, before:, :]
            if square:
                first[:, :before, before:stop] = codes[:, :before, before:]
        here = _window(codes.shape, stop, place)
        found = np.nonzero(first[here] != codes)
        if found[0].size:
            starts = [part.start or 0 for part in here]
            at = np.ravel_multi_index([i + s for i, s in zip(found, starts, strict=True)], first.shape)
            self._changes[step, run, place] = (at, codes[found])
            self._size += at.size

    def finish(self) -> TraceValues | None:
        """The values of all steps; None if they are left out."""
        if self.left_out:
            return None
        return TraceValues(self._first, self._changes, self._shapes, tuple(self._stops))
