"""An attention function under test, called: its inputs, the right answer, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.attending import Attending, Look
from kvsim.testing.independent.decoder import turns
from kvsim.testing.independent.rounding import rounding
from kvsim.testing.plain_attention import attention
from kvsim.testing.subject.calls import ShapeError, UnreadableError, call, to_host
from kvsim.testing.subject.layouts import Layout


@dataclass(frozen=True)
class Setting:
    """What is asked of the function."""

    function: Callable[..., Any]
    layout: Layout
    out: Layout
    heads: int
    kv_heads: int
    d_head: int
    window: int | None
    batch: int
    dtype: str
    array: Callable[[Any], Any]
    seed: int
    rotated: bool = False  # are q and k turned by their positions first?
    cases: int = 0  # sizes at random


class Inputs(NamedTuple):
    """[B, T, H, D], [B, S, G, D], [B, S, G, D] in float64, as the dtype keeps them."""

    q: Any
    k: Any
    v: Any


def make_inputs(s: Setting, number: int, sizes: tuple[int, int]) -> Inputs:
    """Numbers of the order of 1.5, so that the weights of a query differ from one another."""
    generator, (t, n) = np.random.default_rng((s.seed, number)), sizes
    shapes = ((s.batch, t, s.heads, s.d_head), *((s.batch, n, s.kv_heads, s.d_head),) * 2)
    q, k, v = (1.5 * generator.standard_normal(shape) for shape in shapes)
    if s.rotated:
        q, k = turned(q, n - t), turned(k, 0)
    return Inputs(*(np.asarray(rounding(s.dtype)(x)) for x in (q, k, v)))


def turned(x_BTHD: Any, start: int) -> Any:
    """Rotated by positions start, start + 1 ..., in halves."""
    half = x_BTHD.shape[-1] // 2
    made = [turns(10000.0, 2 * half, start + t) for t in range(x_BTHD.shape[1])]
    cos, sin = (np.stack([pair[i] for pair in made])[:, None] for i in (0, 1))
    one, other = x_BTHD[..., :half], x_BTHD[..., half : 2 * half]
    return np.concatenate([one * cos - other * sin, other * cos + one * sin, x_BTHD[..., 2 * half :]], axis=-1)


def right(inputs: Inputs, window: int | None, dtype: str = "float64") -> Any:
    """The transformer's own attention, [B, T, H, D]."""
    q, k, v = (x.transpose(0, 2, 1, 3).astype(dtype) for x in inputs)
    t, n = q.shape[2], k.shape[2]
    past = None if t == n else k[:, :, : n - t]
    past_v = None if t == n else v[:, :, : n - t]
    left = None if window is None else window - 1
    made = attention(q, k[:, :, n - t :], v[:, :, n - t :], causal=True, past_key=past, past_value=past_v,
                     left_window=left)  # fmt: skip
    return made.output.transpose(0, 2, 1, 3).astype(np.float64)


def attend(one: Attending, inputs: Inputs, window: int | None) -> Any:
    """The independent attention, or one with a mistake: [B, T, H, D]."""
    (_, t, h, d), n, made = inputs.q.shape, inputs.k.shape[1], []
    for q, k, v in zip(*inputs, strict=True):
        with np.errstate(all="ignore"):
            look = Look(q, k, v, np.arange(n - t, n), np.arange(n), window, 1.0 / np.sqrt(d))
            made.append(one.attend(look).reshape(t, h, -1))
    return np.stack(made)


def numbers(x: Any) -> Any:
    """A copy of an array; None where it cannot be read."""
    try:
        return to_host(x)[0]
    except UnreadableError:
        return None


def ask(s: Setting, inputs: Inputs) -> tuple[Any, str]:
    """What the function gives, [B, T, H, D], and its dtype. UnreadableError: no such array."""
    kind = s.dtype if hasattr(np, s.dtype) else "float32"
    arrays = [call(s.array, s.layout.put(x).astype(kind)) for x in inputs]
    kept = [numbers(x) for x in arrays]
    words = {} if s.window is None else {"window": s.window}
    got, dtype = to_host(call(s.function, *arrays, **words))
    for name, x, before in zip("qkv", arrays, kept, strict=True):
        if before is not None and not np.array_equal(numbers(x), before):
            raise UnreadableError("attention changed its input {name}", name=name)
    b, t, h, d = inputs.q.shape
    expected = s.out.shape(b, t, h, d)
    if got.shape != expected:
        raise ShapeError(
            "attention gave an array of shape {got}, expected {expected}", got=list(got.shape), expected=list(expected)
        )
    return s.out.take(got, (b, t, h, d)), dtype
