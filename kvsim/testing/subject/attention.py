"""An attention function under test: its inputs and the call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.attention import AttentionInputs, LoopAttention
from kvsim.testing.independent.decoder import cos_sin
from kvsim.testing.independent.rounding import rounding
from kvsim.testing.subject.calls import ShapeError, UnreadableError, call, to_host
from kvsim.testing.subject.layouts import Layout


@dataclass(frozen=True)
class Setting:
    """The function under test and what it is called with."""

    function: Callable[..., Any]
    layout: Layout  # of q, k and v
    out: Layout  # of the output
    heads: int
    kv_heads: int
    d_head: int
    window: int | None
    batch: int
    dtype: str
    array: Callable[[Any], Any]  # makes the inputs of NumPy arrays
    seed: int
    rotated: bool = False  # rotate q and k by their positions before the call
    cases: int = 0  # additional random sizes
    length: int = 0  # keys of the longest call, at least


class Inputs(NamedTuple):
    """q, k and v in float64, rounded to the dtype of the check."""

    q: Any  # [B, T, H, D]
    k: Any  # [B, S, G, D]
    v: Any  # [B, S, G, D]


def make_inputs(s: Setting, number: int, sizes: tuple[int, int]) -> Inputs:
    """Random inputs of T queries and S keys, `sizes`; the same for the same seed and number.

    Their standard deviation of 1.5 makes the attention weights of one query clearly unequal.
    """
    generator, (t, n) = np.random.default_rng((s.seed, number)), sizes
    shapes = ((s.batch, t, s.heads, s.d_head), *((s.batch, n, s.kv_heads, s.d_head),) * 2)
    q, k, v = (1.5 * generator.standard_normal(shape) for shape in shapes)
    if s.rotated:
        q, k = rotate(q, n - t), rotate(k, 0)
    return Inputs(*(np.asarray(rounding(s.dtype)(x)) for x in (q, k, v)))


def rotate(x_BTHD: Any, start: int) -> Any:
    """x rotated by the positions start, start + 1 ..., theta 10000, in pairs (j, D/2 + j)."""
    half = x_BTHD.shape[-1] // 2
    pairs = [cos_sin(10000.0, 2 * half, start + t) for t in range(x_BTHD.shape[1])]
    cos, sin = (np.stack([pair[i] for pair in pairs])[:, None] for i in (0, 1))
    one, other = x_BTHD[..., :half], x_BTHD[..., half : 2 * half]
    return np.concatenate([one * cos - other * sin, other * cos + one * sin, x_BTHD[..., 2 * half :]], axis=-1)


def attend(loops: LoopAttention, inputs: Inputs, window: int | None) -> Any:
    """The output [B, T, H, D] of the independent attention, or of a mistake made in it."""
    (_, t, h, d), n, outputs = inputs.q.shape, inputs.k.shape[1], []
    loops.step = n - t, t
    for q, k, v in zip(*inputs, strict=True):
        with np.errstate(all="ignore"):
            one = AttentionInputs(q, k, v, np.arange(n - t, n), np.arange(n), window, 1.0 / np.sqrt(d))
            outputs.append(loops.attend(one).reshape(t, h, -1))
    return np.stack(outputs)


def read_copy(x: Any) -> Any:
    """A copy of an array as a NumPy array in float64; None where it cannot be read."""
    try:
        return to_host(x)[0]
    except UnreadableError:
        return None


def call_attention(s: Setting, inputs: Inputs) -> tuple[Any, str]:
    """The output of the function under test, [B, T, H, D] in float64, and its dtype.

    UnreadableError: not an array of that shape, an input was changed, or whatever `call` raises it for.
    """
    kind = s.dtype if hasattr(np, s.dtype) else "float32"
    arrays = [call(s.array, s.layout.put(x).astype(kind)) for x in inputs]
    copies = [read_copy(x) for x in arrays]
    words = {} if s.window is None else {"window": s.window}
    got, dtype = to_host(call(s.function, *arrays, **words))
    for name, x, before in zip("qkv", arrays, copies, strict=True):
        if before is not None and not np.array_equal(read_copy(x), before):
            raise UnreadableError("attention changed its input {name}", name=name)
    b, t, h, d = inputs.q.shape
    expected = s.out.shape(b, t, h, d)
    if got.shape != expected:
        raise ShapeError(
            "attention gave an array of shape {got}, expected {expected}", got=list(got.shape), expected=list(expected)
        )
    return s.out.take(got, (b, t, h, d)), dtype
