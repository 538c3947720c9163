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

JUNK = 4.0  # what rows that were never written hold, at least. Not more: whoever reads them rounds as others do


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
    buffer: int | None = None  # rows of k and v, of which a length is valid; None: all rows are


class Inputs(NamedTuple):
    """q, k and v in float64, rounded to the dtype of the check."""

    q: Any  # [B, T, H, D]
    k: Any  # [B, S, G, D]
    v: Any  # [B, S, G, D]
    lengths: Any = None  # [B]: the valid rows of each sequence, if k and v are buffers with more rows; None: all


def make_inputs(s: Setting, number: int, sizes: tuple[int, int], nan: bool = False) -> Inputs:
    """Random inputs of T queries and S keys, `sizes`; the same for the same seed and number. In a buffer, the longest
    sequence has S keys; `nan`: the rows past its length hold NaN, otherwise large numbers.

    Their standard deviation of 1.5 makes the attention weights of one query clearly unequal.
    """
    generator, (t, n) = np.random.default_rng((s.seed, number)), sizes
    shapes = ((s.batch, t, s.heads, s.d_head), *((s.batch, n, s.kv_heads, s.d_head),) * 2)
    q, k, v = (1.5 * generator.standard_normal(shape) for shape in shapes)
    lengths: Any = None if s.buffer is None else choose_lengths(s.batch, number, sizes)
    if s.rotated and lengths is None:
        q, k = rotate(q, n - t), rotate(k, 0)
    elif s.rotated:
        q = np.concatenate([rotate(q[i : i + 1], int(length) - t) for i, length in enumerate(lengths)])
        k = rotate(k, 0)
    if s.buffer is not None:
        k, v = (fill_buffer(x, lengths, s.buffer, generator) for x in (k, v))
    q, k, v = (np.asarray(rounding(s.dtype)(x)) for x in (q, k, v))
    if nan and lengths is not None:
        for i, length in enumerate(lengths):
            k[i, length:], v[i, length:] = np.nan, np.nan
    return Inputs(q, k, v, lengths)


def choose_lengths(batch: int, number: int, sizes: tuple[int, int]) -> Any:
    """[B]: S rows for one sequence, another one in every second call, and fewer for the others, but at least T."""
    (t, n), longest = sizes, number // 2 % batch
    shorter = [max(t, n - 1 - (number + i) % 3) for i in range(batch)]
    return np.array([n if i == longest else shorter[i] for i in range(batch)], np.int32)


def fill_buffer(x_BSGD: Any, lengths: Any, size: int, generator: Any) -> Any:
    """Buffers of `size` rows that start with the rows of each sequence. The rows past its length hold numbers between
    JUNK and 2 JUNK of both signs."""
    shape = (len(x_BSGD), size, *x_BSGD.shape[2:])
    buffers = generator.choice([-1.0, 1.0], shape) * generator.uniform(JUNK, 2 * JUNK, shape)
    for buffer, x, length in zip(buffers, x_BSGD, lengths, strict=True):
        buffer[:length] = x[:length]
    return buffers


def rotate(x_BTHD: Any, start: int) -> Any:
    """x rotated by the positions start, start + 1 ..., theta 10000, in pairs (j, D/2 + j)."""
    half = x_BTHD.shape[-1] // 2
    pairs = [cos_sin(10000.0, 2 * half, start + t) for t in range(x_BTHD.shape[1])]
    cos, sin = (np.stack([pair[i] for pair in pairs])[:, None] for i in (0, 1))
    one, other = x_BTHD[..., :half], x_BTHD[..., half : 2 * half]
    return np.concatenate([one * cos - other * sin, other * cos + one * sin, x_BTHD[..., 2 * half :]], axis=-1)


def attend(loops: LoopAttention, inputs: Inputs, window: int | None) -> Any:
    """The output [B, T, H, D] of the independent attention, or of a mistake made in it."""
    (_, t, h, d), size, outputs = inputs.q.shape, inputs.k.shape[1], []
    for i, (q, k, v) in enumerate(zip(*inputs[:3], strict=True)):
        n = rows = size
        loops.step = n - t, t
        if inputs.lengths is not None:
            loops.step = int(inputs.lengths[i]) - t, t
            n = loops.buffer_length(inputs.lengths, i, size)
            rows = min(loops.buffer_rows(n, size), size)
        with np.errstate(all="ignore"):
            one = AttentionInputs(q, k[:rows], v[:rows], np.arange(n - t, n), np.arange(rows), window, 1.0 / np.sqrt(d))
            outputs.append(loops.attend(one).reshape(t, h, -1))
    return np.stack(outputs)


def read_copy(x: Any) -> Any:
    """A copy of an array as a NumPy array in float64; None where it cannot be read."""
    try:
        return to_host(x)[0]
    except UnreadableError:
        return None


def make_lengths(s: Setting, lengths: Any) -> Any:
    """The lengths as the function under test gets them: one int where there is no batch axis, else an int32 array [B],
    made by `array` unless that does not keep whole numbers."""
    if not s.layout.batched:
        return int(lengths[0])
    made = call(s.array, lengths.copy())
    return made if "int" in str(getattr(made, "dtype", "")) else lengths.copy()


def call_attention(s: Setting, inputs: Inputs) -> tuple[Any, str]:
    """The output of the function under test, [B, T, H, D] in float64, and its dtype.

    UnreadableError: not an array of that shape, an input was changed, or whatever `call` raises it for.
    """
    kind = s.dtype if hasattr(np, s.dtype) else "float32"
    arrays = [call(s.array, s.layout.put(x).astype(kind)) for x in inputs[:3]]
    copies = [read_copy(x) for x in arrays]
    words: dict[str, Any] = {} if s.window is None else {"window": s.window}
    if s.buffer is not None:
        words["length"] = make_lengths(s, inputs.lengths)
    got, dtype = to_host(call(s.function, *arrays, **words))
    for name, x, before in zip("qkv", arrays, copies, strict=True):
        if before is not None and not np.array_equal(read_copy(x), before, equal_nan=True):
            raise UnreadableError("attention changed its input {name}", name=name)
    b, t, h, d = inputs.q.shape
    expected = s.out.shape(b, t, h, d)
    if got.shape != expected:
        raise ShapeError(
            "attention gave an array of shape {got}, expected {expected}", got=list(got.shape), expected=list(expected)
        )
    return s.out.take(got, (b, t, h, d)), dtype
