"""An attention function under test: compared with the transformer's own, read out with V = identity, its mistake named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.attending import Attending, Look
from kvsim.testing.attention import attention
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.decoder import turns
from kvsim.testing.diagnosing import Vote, diagnose, equal
from kvsim.testing.failing import OracleError, ids_of, tell_allowed, tell_diagnosis
from kvsim.testing.foreign import Problem, UnreadableError, call, first_blank, largest, to_host
from kvsim.testing.layouts import Layout, read_layout
from kvsim.testing.picture import LEGEND, draw, labels
from kvsim.testing.references import Allowed, allow, coarser
from kvsim.testing.rounding import exact, format_name, rounding
from kvsim.testing.sentences import language, tell

# (queries, keys): chunks after a past, a whole text, a decode step, the smallest.
SIZES = ((3, 7), (7, 7), (1, 7), (1, 1), (2, 3), (6, 6), (4, 9))


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


class Inputs(NamedTuple):
    """[B, T, H, D], [B, S, G, D], [B, S, G, D] in float64, as the dtype keeps them."""

    q: Any
    k: Any
    v: Any


class Compared(NamedTuple):
    sizes: tuple[int, int]
    inputs: Inputs
    got: Any  # [B, T, H, D]; None: a problem
    expected: Any
    dtype: str
    problem: Problem | None = None

    def fails(self, allowed: float) -> bool:
        return self.got is not None and not equal(self.got, self.expected, allowed)


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


def ask(s: Setting, inputs: Inputs) -> tuple[Any, str]:
    """What the function gives, [B, T, H, D], and its dtype. UnreadableError: no such array."""
    kind = s.dtype if hasattr(np, s.dtype) else "float32"
    arrays = [s.layout.put(x).astype(kind) for x in inputs]
    kept = [x.copy() for x in arrays]
    words = {} if s.window is None else {"window": s.window}
    got, dtype = to_host(call(s.function, *(s.array(x) for x in arrays), **words))
    for name, x, before in zip("qkv", arrays, kept, strict=True):
        if not np.array_equal(x, before):
            raise UnreadableError("attention changed its input {name}", name=name)
    b, t, h, d = inputs.q.shape
    expected = s.out.shape(b, t, h, d)
    if got.shape != expected:
        raise UnreadableError(
            "attention gave an array of shape {got}, expected {expected}", got=list(got.shape), expected=list(expected)
        )
    return s.out.take(got, (b, t, h, d)), dtype


def compare(s: Setting, number: int, sizes: tuple[int, int]) -> Compared:
    inputs = make_inputs(s, number, sizes)
    expected = right(inputs, s.window)
    try:
        got, dtype = ask(s, inputs)
    except UnreadableError as error:
        return Compared(sizes, inputs, None, expected, s.dtype, error.problem)
    return Compared(sizes, inputs, got, expected, dtype)


def own_error(done: list[Compared], window: int | None, dtype: str) -> float:
    """How far the reference's own runs in `dtype` are from it."""
    emulated = Attending()
    emulated.keep = rounding(dtype)
    worst = 0.0
    for c in done:
        runs = [attend(emulated, c.inputs, window)]
        runs[0] = emulated.keep(runs[0])
        if dtype in ("float32", "float16"):
            runs.append(right(c.inputs, window, dtype))
        worst = max([worst, *(largest(run - c.expected) for run in runs)])
    return worst


class AttentionSuspects:
    """Every mistake that is of attention alone."""

    def __init__(self, done: list[Compared], window: int | None) -> None:
        self.done, self.window = done, window

    def readings(self) -> list[tuple[Mistake, list[type[Any]]]]:
        return [(m, m.attention_variants()) for m in BANK.values() if m.attention_variants()]

    def run(self, mistake: Mistake, cls: type[Any], wanted: list[int]) -> dict[int, Any]:
        one = cls.bare(None)
        return {i: attend(one, self.done[i].inputs, self.window) for i in wanted}


# Reading out


def read_out(s: Setting, inputs: Inputs) -> Any:
    """[B, H, T, S]: the weights, by values that are 1 for one key and 0 for the others, d keys at a time."""
    d, n = s.d_head, inputs.k.shape[1]
    columns = []
    for first in range(0, n, d):
        v = np.zeros_like(inputs.v)
        for channel, key in enumerate(range(first, min(first + d, n))):
            v[:, key, :, channel] = 1.0
        got, _ = ask(s, inputs._replace(v=v))
        columns.append(got[..., : min(d, n - first)])
    return np.concatenate(columns, axis=-1).transpose(0, 2, 1, 3)


def read_heads(s: Setting, inputs: Inputs) -> list[Any]:
    """The key/value head that each query head reads; None: none or several."""
    weights = []
    for g in range(s.kv_heads):
        v = np.zeros_like(inputs.v)
        v[:, :, g] = 1.0
        weights.append(np.abs(ask(s, inputs._replace(v=v))[0]).max(axis=(0, 1, 3)))
    seen = np.stack(weights) > 1e-6
    return [int(np.argmax(column)) if column.sum() == 1 else None for column in seen.T]


def is_linear(s: Setting, inputs: Inputs, allowed: float) -> bool:
    """Do values of 0 give 0?"""
    return largest(ask(s, inputs._replace(v=np.zeros_like(inputs.v)))[0]) <= allowed


def tell_read_out(lang: str, s: Setting, c: Compared, allowed: float) -> list[str]:
    """Who sees whom, which head reads which, do weights sum to 1."""
    try:
        if not is_linear(s, c.inputs, allowed):
            return ["", "  " + tell(lang, "the output is not linear in V: what is weighed is not V"), ""]
        got, heads = read_out(s, c.inputs), read_heads(s, c.inputs)
    except UnreadableError:
        return []
    (t, n), limit = c.sizes, max(allowed, 1e-12)
    sees = np.abs(np.nan_to_num(got, nan=1.0)) > limit
    query = np.arange(n - t, n)[:, None]
    must = (np.arange(n) <= query) & (np.arange(n) > query - (n + 1 if s.window is None else s.window))
    differing = [h for h in range(s.heads) if not np.array_equal(sees[0, h], must)]
    head, names = (differing or [0])[0], labels(n)
    sums = bool(np.abs(got.sum(axis=-1) - 1.0).max() <= max(100 * allowed, 1e-9))
    title = tell(lang, "who sees whom (head {head}, read out with V = identity)", head=head)
    expected = [h // (s.heads // s.kv_heads) for h in range(s.heads)]
    return [
        "", f"  {title}   {tell(lang, LEGEND)}", *draw(lang, sees[0, head], must, names[n - t :], names),
        "   " + tell(lang, "query head -> kv head: yours {got}  reference {expected};  rows sum to 1: {sums}", got=heads,
                     expected=expected, sums=tell(lang, "yes" if sums else "no")), "",
    ]  # fmt: skip


# Telling


def tell_first(lang: str, c: Compared, allowed: float) -> str:
    b, t, h, d = (int(i) for i in np.argwhere(~(np.abs(c.got - c.expected) <= allowed))[0])
    position = c.sizes[1] - c.sizes[0] + t
    return "  " + tell(
        lang,
        "first place: head {head}, query {query} (token {token}, position {position}), channel {channel}: got {got},"
        " expected {expected}",
        head=h, query=t, token=repr(labels(c.sizes[1])[position]), position=position, channel=d,
        got=f"{c.got[b, t, h, d]:+.4f}", expected=f"{c.expected[b, t, h, d]:+.4f}",
    )  # fmt: skip


def smallest_failing(s: Setting, allowed: float) -> tuple[int, int] | None:
    """The fewest keys, then the fewest queries, with which it fails."""
    for n in range(1, 8):
        for t in range(1, n + 1):
            if compare(s, 1000 + 10 * n + t, (t, n)).fails(allowed):
                return t, n
    return None


def fail(s: Setting, done: list[Compared], allowed: Allowed) -> OracleError:
    """The error that says it all."""
    lang, bound = language(), allowed.value
    problem = next((c for c in done if c.problem is not None), None)
    lines = []
    if problem is not None and problem.problem is not None:
        what = tell(lang, problem.problem.template, **problem.problem.values)
        t, n = problem.sizes
        lines.append(tell(lang, "{what} ({queries} queries, {keys} keys)", what=what, queries=t, keys=n))
    failing = [c for c in done if c.fails(bound)]
    if not failing:
        return OracleError("\n".join(lines), {"problem": lines, "diagnosis": []})
    first = failing[0]
    wrong = [~(np.abs(c.got - c.expected) <= bound) for c in failing]
    worst = max(largest(c.got - c.expected) for c in failing)
    lines.append(tell(
        lang,
        "attention output differs from the reference: {count} of {total} values, max |diff| {worst} ({allowed})",
        count=sum(int(w.sum()) for w in wrong), total=sum(w.size for w in wrong), worst=f"{worst:.3g}",
        allowed=tell_allowed(lang, allowed),
    ))  # fmt: skip
    lines.append(tell_first(lang, first, bound))
    if (place := first_blank(first.got)) is not None:
        lines.append("  " + tell(
            lang,
            "the result holds {value} at {place} (feed {feed}), where the reference is finite: a query that sees"
            " nothing, or an overflow",
            value=first.got[place], place=list(place), feed=list(first.sizes),
        ))  # fmt: skip
    lines += tell_read_out(lang, s, first, bound)
    diagnosis = diagnose([Vote(c.expected, c.got, bound) for c in done], AttentionSuspects(done, s.window))
    lines += tell_diagnosis(lang, diagnosis)
    smallest = smallest_failing(s, bound)
    if smallest is not None:
        lines.append("  " + tell(lang, "smallest : {queries} queries, {keys} keys", queries=smallest[0],
                                 keys=smallest[1]))  # fmt: skip
    if ids_of(diagnosis) != ["unknown"]:
        window = "" if s.window is None else f" --window {s.window}"
        command = (
            f"kvsim explain {ids_of(diagnosis)[0]} --heads {s.heads} --kv-heads {s.kv_heads}{window}"
            f" --queries {first.sizes[0]} --keys {first.sizes[1]} --seed {s.seed}"
        )
        lines.append("  " + tell(lang, "reproduce: {command}", command=command))
    facts = {"diagnosis": ids_of(diagnosis), "max_abs_diff": worst, "allowed": bound, "smallest": list(smallest or ()),
             "failing": [list(c.sizes) for c in failing]}  # fmt: skip
    return OracleError("\n".join(lines), facts)


def assert_attention(
    function: Callable[..., Any], layout: str = "b t h d", *, heads: int = 4, kv_heads: int | None = None,
    d_head: int = 8, window: int | None = None, out: str | None = None, dtype: str = "float64",
    array: Callable[[Any], Any] = exact, batch: int = 2, cases: int = 0, seed: int = 0, allowed: float | None = None,
    rotated: bool = False,
) -> None:  # fmt: skip
    """Is `function(q, k, v)` (with `window=W` where a window is asked) causal attention? q and k come rotated; the T
    queries are the last T of the S positions.

    Layouts are of the letters b t h d; the output has q's, unless `out` says another. `array` makes the inputs of
    NumPy arrays in `dtype`; `rotated` turns q and k by their positions before. OracleError: no, and the mistake's name. UsageError: a layout or sizes that make no sense.
    """
    __tracebackhide__ = True
    kv_heads = heads if kv_heads is None else kv_heads
    if min(heads, kv_heads, d_head, batch, 1 if window is None else window) < 1 or heads % kv_heads:
        raise UsageError(
            "heads must be a multiple of kv_heads and all sizes at least 1, got {heads} heads and {kv_heads} kv_heads",
            heads=heads,
            kv_heads=kv_heads,
        )
    shape = read_layout(layout)
    s = Setting(
        function, shape, shape if out is None else read_layout(out), heads, kv_heads, d_head, window,
        batch if shape.batched else 1, format_name(dtype), array, seed, rotated,
    )  # fmt: skip
    generator = np.random.default_rng(seed)
    more = [tuple(sorted(int(i) for i in generator.integers(1, 13, 2))) for _ in range(cases)]
    long = () if window is None else ((window + 2, 2 * window + 3), (window + 3, window + 3))
    done = [compare(s, i, (sizes[0], sizes[1])) for i, sizes in enumerate((*SIZES, *long, *more))]
    came = [c.dtype for c in done if c.got is not None]
    name = coarser(came[0], s.dtype) if came else s.dtype
    own = 0.0 if allowed is not None else own_error(done, window, name)
    bound = allow(name, own, max(largest(c.expected) for c in done), allowed)
    if any(c.problem is not None or c.fails(bound.value) for c in done):
        raise fail(s, done, bound)
