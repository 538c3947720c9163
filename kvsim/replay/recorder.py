"""The transformer, run once for what it asks for."""

from collections.abc import Sequence
from typing import Any

from kvsim.caches.base import LayerCache
from kvsim.config import Config
from kvsim.counting.repeated import Repeated
from kvsim.counting.symbolic import Poly, Split
from kvsim.fast.numpy_ops import FastOps
from kvsim.replay.program import Program
from kvsim.replay.recording import RecordingLayer, RecordingOps, Tape
from kvsim.spans import Span
from kvsim.transformer.attention import Sequence as Rows
from kvsim.transformer.decoder import decode
from kvsim.weights import Weights, map_arrays

FOREVER = 1 << 40  # tokens


def record(ops: FastOps, config: Config, weights: Weights, layers: Sequence[LayerCache], t: int) -> Program:
    """The program of one token after `t` others, for the longest interval of t around it in which nothing is decided
    differently: sizes and positions change there, and nothing else."""
    lo, hi = 0, FOREVER
    while True:
        tape = Tape()
        recording, token = RecordingOps(tape, ops), tape.given((1,), "int64")
        now: Any = Poly((0, 1), lo, hi) if lo < hi else lo
        caches = tuple(RecordingLayer(tape, i, layer) for i, layer in enumerate(layers))
        rows = Rows(slice(0, 1), Span(now, now + 1), caches)
        try:
            with recording.count() as ledger:
                logits = decode(
                    recording, config, map_arrays(weights, recording.to_device), token, [rows], last_only=False
                )
        except Split as split:
            lo, hi = (split.at, hi) if t >= split.at else (lo, split.at - 1)
            continue
        return Program(tape.calls, token, logits, Repeated(ledger.events), lo, hi)
