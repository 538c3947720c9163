"""Traces for tests of the page: of the demo model, with hostile tokens, and long ones that need no run."""

from dataclasses import replace
from functools import cache

import kvsim
from kvsim.comparisons.agreement_record import Agreement
from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.comparisons.trace_values import encode
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.text import Piece
from tests.models import PRIMES, demo, make_model

HOSTILE = (
    "</script><script>window.pwned=1</script>", "<img src=x onerror='window.pwned=1'>", "\u202eright to left",
    "\u200f\u05e9\u05dc\u05d5\u05dd", "x" * 10_000, "&amp;<b>{{data}}</b>", "`${window.pwned=1}`",
)  # fmt: skip
WINDOWED = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=3), PRIMES.layers[1]))


@cache
def seven() -> Trace:
    """The README's trace: seven steps, 140 and 28 score cells."""
    return kvsim.trace("中华人民", demo(), values=True)


@cache
def windowed() -> Trace:
    """Seven tokens, the first four fed at once, of a model whose first layer has a window."""
    return kvsim.trace([3, 14, 15, 92], make_model(WINDOWED, "float32"), 4, "prefill", values=True)


@cache
def hostile() -> Trace:
    """The README's trace with other texts of its tokens."""
    trace = seven()
    pieces = [Piece(i, text) for i, text in enumerate(HOSTILE)]
    steps = [
        replace(step, fed=(piece,), next=pieces[step.number % 7])
        for step, piece in zip(trace.steps, pieces, strict=True)
    ]
    return replace(trace, text=HOSTILE[0], prompt=tuple(pieces[:4]), new=(*pieces[4:], pieces[0]), steps=tuple(steps))


def changed() -> Trace:
    """The README's trace in which two scores of the last cached step are others than those first computed."""
    trace = seven()
    assert trace.values is not None
    at = [7 * 6 + 2, 7 * 7 * 3 + 7 * 6 + 5]  # of heads 0 and 3: query 7 with keys 3 and 6
    changes = {**trace.values.changes, (7, "cached", "layers.0.scores"): (at, encode([55.5, -44.5]))}
    return replace(trace, values=replace(trace.values, changes=changes))


def long_trace(tokens: int, layers: int, heads: int, size: int = 128) -> Trace:
    """A trace of `tokens` steps with the shapes and counts of attention alone, as a dynamic cache would leave them."""
    texts = "中华人民共和国"
    pieces = tuple(Piece(i, texts[i % 7]) for i in range(tokens + 1))
    same = Agreement(0.0, 1.0, True)
    steps = []
    for n in range(1, tokens + 1):
        no_cache, cached = (_side(layers, heads, size, rows, n, held) for rows, held in ((n, 0), (1, n)))
        steps.append(TraceStep(n, (pieces[n - 1],), pieces[n], no_cache, cached, same))
    return Trace(
        text=None, prompt=pieces[:4], new=pieces[4:], feed="token", cache="dynamic",
        model={"name": "long", "layers": layers, "heads": heads, "kv_heads": heads, "d_head": size}, backend="numpy",
        dtype="float32", item_bytes=4, steps=tuple(steps), windows=(None,) * layers,
    )  # fmt: skip


def _side(layers: int, heads: int, size: int, rows: int, n: int, held: int) -> Side:
    useful = heads * size * (n * (n + 1) // 2 if rows == n else n)
    events = []
    for layer in range(layers):
        at = f"layers.{layer}."
        events += [MatMul(at + kind, 1, rows, size, size, rows * size * size) for kind in ("query", "key", "value")]
        events += [
            MatMul(at + "scores", heads, rows, size, n, useful),
            MatMul(at + "context", heads, rows, n, size, useful),
        ]
    kv = 2 * held * heads * size * 4 * layers
    return Side(Counts.of(Ledger(events)), held, kv, kv, tuple(events))
