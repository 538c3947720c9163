"""The check of an attention function: it is compared with the transformer's own, and its mistake named."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.checks import check_flag, check_function, check_list, check_whole
from kvsim.errors import UsageError, shortened
from kvsim.testing.feeds.attention import SIZES, Comparison, compare_all, own_error
from kvsim.testing.feeds.references import Allowed, allow, check_allowed, coarser, refuse_vacuous
from kvsim.testing.independent.rounding import exact, format_name
from kvsim.testing.subject.attention import Setting
from kvsim.testing.subject.calls import max_abs
from kvsim.testing.subject.layouts import read_layout
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.subject.room import CASES, attention_work, check_room, check_work
from kvsim.testing.verdict.attention import describe_failure
from kvsim.testing.verdict.error import OracleError

LEAST_BUFFER = 8  # rows: one more than the usual calls have keys


def assert_attention(
    function: Callable[..., Any], layout: str = "b t h d", *, heads: int = 4, kv_heads: int | None = None,
    d_head: int = 8, window: int | None = None, out: str | None = None, dtype: str = "float64",
    array: Callable[[Any], Any] = exact, batch: int = 2, cases: int = 0, seed: int = 0, length: int = 0,
    buffer: int | None = None, nan: bool = True, allowed: float | None = None, rotated: bool = False,
    seconds: float = SECONDS, show: tuple[int, int] | None = None,
) -> None:  # fmt: skip
    """Check that `function(q, k, v)` is causal attention of T queries, the last T of S positions.

    With `window`, `window=W` is passed, too. q and k come with positions already encoded. Their layout consists of the
    letters b t h d; the output has q's layout, unless `out` gives another. `array` converts the inputs, NumPy arrays in
    `dtype`, to the function's own kind; `rotated` applies rotary positions to q and k first. `cases`: more sizes at
    random. `length`: one call has at least that many keys (35 in any case). `allowed`: replaces the difference that
    rounding explains. A call may take `seconds`. `show`: the
    (queries, keys) whose failure is shown, if they fail.

    `buffer=64`: k and v are preallocated buffers of 64 rows and `length=` is passed, the number of rows that are valid,
    the T new ones included: an int or, with b in the layout, an int32 array [B] of another length for each sequence
    (made by `array`, if that keeps whole numbers). The rows past it hold large numbers and, in three more calls, NaN;
    `nan=False` leaves these out, for buffers that are made of zeros.

    OracleError: the function is wrong; the mistake is named. UsageError: a layout or sizes that do not fit together.
    """
    __tracebackhide__ = True
    kv_heads = heads if kv_heads is None else kv_heads
    heads, kv_heads, d_head, batch = _check_sizes(heads, kv_heads, d_head, batch)
    window = None if window is None else check_whole("window", window, 1)
    seed, cases = check_whole("seed", seed, 0), check_whole("cases", cases, 0, CASES)
    length, nan = check_whole("length", length, 0), check_flag("nan", nan)
    buffer = None if buffer is None else check_whole("buffer", buffer, LEAST_BUFFER)
    show, allowed = _read_show(show), check_allowed(allowed)
    check_function("array", array)
    shape = read_layout(layout)
    s = Setting(
        limited(function, seconds, "function"), shape, shape if out is None else read_layout(out), heads, kv_heads,
        d_head, window, batch if shape.batched else 1, format_name(dtype), array, seed,
        check_flag("rotated", rotated), cases, length, buffer,
    )  # fmt: skip
    done = compare_all(s, _sizes(s, show), nan)
    bound = _allow(s, done, allowed)
    if any(c.problem is not None or c.fails(bound.value) for c in done):
        raise OracleError(describe_failure(s, done, bound, show))


def _read_show(show: Any) -> tuple[int, int] | None:
    """The (queries, keys) to show. UsageError: not two whole numbers, or more queries than keys."""
    if show is None:
        return None
    pair = check_list("show", show)
    if len(pair) != 2:
        raise UsageError("show takes (queries, keys), got {got}", got=shortened(show))
    queries, keys = (check_whole("show", size, 1) for size in pair)
    if queries > keys:
        raise UsageError("show asks for {queries} queries and {keys} keys: the queries are the last of the keys",
                         queries=queries, keys=keys)  # fmt: skip
    return queries, keys


def _check_sizes(heads: Any, kv_heads: Any, d_head: Any, batch: Any) -> tuple[int, int, int, int]:
    """The sizes as ints. UsageError: not whole numbers from 1 on, or heads that are not a multiple of kv_heads."""
    heads, kv_heads = check_whole("heads", heads, 1), check_whole("kv_heads", kv_heads, 1)
    d_head, batch = check_whole("d_head", d_head, 1), check_whole("batch", batch, 1)
    if heads % kv_heads:
        raise UsageError(
            "heads must be a multiple of kv_heads and all sizes at least 1, got {heads} heads and {kv_heads} kv_heads",
            heads=heads,
            kv_heads=kv_heads,
        )
    return heads, kv_heads, d_head, batch


def _sizes(s: Setting, show: tuple[int, int] | None) -> list[tuple[int, int]]:
    """The (queries, keys) of every call: fixed ones, longer ones for a window, `s.cases` at random, and `show`.

    UsageError: arrays too large to compute with, or too much work."""
    generator = np.random.default_rng(s.seed)
    more = [tuple(sorted(int(i) for i in generator.integers(1, 13, 2))) for _ in range(s.cases)]
    long = () if s.window is None else ((s.window + 2, 2 * s.window + 3), (s.window + 3, s.window + 3))
    usual = SIZES if s.buffer is None else tuple(pair for pair in SIZES if pair[1] <= s.buffer)
    long = (*long, (2, s.length)) if s.length > max(n for _, n in usual) else long
    if s.buffer is not None:
        check_whole("buffer", s.buffer, max(n for _, n in (*long, show or (1, 1))))
        long = (*long, (2, s.buffer))  # full
        more = [(min(t, s.buffer), min(n, s.buffer)) for t, n in more]
    sizes = [(t, n) for t, n in (*usual, *long, *more)]
    for queries, keys in sizes if show is None else [*sizes, show]:
        check_room(s.batch, s.heads, s.buffer or keys, max(queries, s.d_head))
    fixed = [(t, n) for t, n in (*usual, *long)] + ([] if show is None else [show])
    check_work(sum(s.batch * attention_work(s.heads, s.d_head, t, s.buffer or n) for t, n in fixed))
    return sizes if show is None or show in sizes else [*sizes, show]


def _allow(s: Setting, done: list[Comparison], given: float | None) -> Allowed:
    """The difference that rounding explains. UsageError: it is as large as the outputs themselves."""
    came = [c.dtype for c in done if c.got is not None]
    name = coarser(came[0], s.dtype) if came else s.dtype
    own = 0.0 if given is not None else own_error(done, s.window, name)
    top = max(max_abs(c.expected) for c in done)
    bound = allow(name, own, top, given)
    refuse_vacuous(bound, top)
    return bound
