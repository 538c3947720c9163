"""An attention function under test: compared with the transformer's own, and its mistake named."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.feeds.references import Allowed, allow, coarser, refuse_all
from kvsim.testing.independent.attending import Attending
from kvsim.testing.independent.rounding import exact, format_name, rounding
from kvsim.testing.subject.attention import Inputs, Setting, ask, attend, make_inputs, right
from kvsim.testing.subject.calls import Problem, UnreadableError, first_blank, largest
from kvsim.testing.subject.layouts import read_layout
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.subject.weights import check_whole
from kvsim.testing.verdict.diagnosing import Vote, diagnose, equal
from kvsim.testing.verdict.failing import OracleError, ids_of, tell_allowed, tell_command, tell_diagnosis
from kvsim.testing.verdict.picture import labels
from kvsim.testing.verdict.readout import tell_read_out
from kvsim.testing.verdict.sentences import language, tell

# (queries, keys): chunks after a past, a whole text, a decode step, the smallest.
SIZES = ((3, 7), (7, 7), (1, 7), (1, 1), (2, 3), (6, 6), (4, 9))


class Compared(NamedTuple):
    sizes: tuple[int, int]
    inputs: Inputs
    got: Any  # [B, T, H, D]; None: a problem
    expected: Any
    dtype: str
    problem: Problem | None = None

    def fails(self, allowed: float) -> bool:
        return self.got is not None and not equal(self.got, self.expected, allowed)


def compare(s: Setting, number: int, sizes: tuple[int, int]) -> Compared:
    inputs = make_inputs(s, number, sizes)
    expected = right(inputs, s.window)
    try:
        got, dtype = ask(s, inputs)
    except UnreadableError as error:
        return Compared(sizes, inputs, None, expected, s.dtype, error.problem)
    return Compared(sizes, inputs, got, expected, dtype)


def compare_all(s: Setting, sizes: list[tuple[int, int]]) -> list[Compared]:
    """Each of the sizes, until something does not return."""
    done: list[Compared] = []
    for i, pair in enumerate(sizes):
        done.append(compare(s, i, pair))
        if (problem := done[-1].problem) is not None and problem.last:
            break
        if done[-1].got is not None and done[-1].dtype != (first := done[0].dtype) and done[0].got is not None:
            mixed = Problem("attention gave {got} after it gave {before}, expected one dtype",
                            {"got": done[-1].dtype, "before": first})  # fmt: skip
            done[-1] = done[-1]._replace(got=None, problem=mixed)
    return done


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
        """What was run before in this process is known."""
        return {i: self._known(cls, self.done[i].inputs) for i in wanted}

    def _known(self, cls: type[Any], inputs: Inputs) -> Any:
        key = (cls, self.window, fingerprint(inputs))
        return KNOWN.get(key, lambda: [attend(cls.bare(None), inputs, self.window)])[0]


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


def tell_blank(lang: str, failing: list[Compared]) -> list[str]:
    """Numbers that are not finite: no matter of rounding."""
    for c in failing:
        if (place := first_blank(c.got)) is not None:
            return [tell(
                lang,
                "the result holds {value} at {place} ({queries} queries, {keys} keys), where the reference is finite: a"
                " query that sees nothing, or an overflow",
                value=c.got[place], place=list(place), queries=c.sizes[0], keys=c.sizes[1],
            )]  # fmt: skip
    return []


def smallest_failing(s: Setting, allowed: float) -> tuple[int, int] | None:
    """The fewest keys, then the fewest queries, with which it fails."""
    for n in range(1, 8):
        for t in range(1, n + 1):
            compared = compare(s, 1000 + 10 * n + t, (t, n))
            if compared.fails(allowed):
                return t, n
            if compared.problem is not None and compared.problem.last:
                return None
    return None


def feed_of(n_queries: int, n_keys: int) -> list[int]:
    """The chunks of a text whose last one asks so many queries of so many keys."""
    return [n_keys] if n_queries == n_keys else [n_keys - n_queries, n_queries]


def fail(s: Setting, done: list[Compared], allowed: Allowed, show: tuple[int, int] | None) -> OracleError:
    """The error that says it all, and shows the sizes asked for where they fail."""
    lang, bound = language(), allowed.value
    problems = [c for c in done if c.problem is not None]
    problem = next((c for c in problems if c.problem and c.problem.last), problems[0] if problems else None)
    lines = []
    if problem is not None and problem.problem is not None:
        what = tell(lang, problem.problem.template, **problem.problem.values)
        t, n = problem.sizes
        lines.append(tell(lang, "{what} ({queries} queries, {keys} keys)", what=what, queries=t, keys=n))
    failing = [c for c in done if c.fails(bound)]
    if not failing or (problem is not None and problem.problem is not None and problem.problem.last):
        raised = {c.problem and c.problem.values.get("raised") for c in done}
        facts = {"problem": lines, "diagnosis": [], "unwritten": raised == {NotImplementedError}}
        return OracleError("\n".join(lines), facts)
    first = next((c for c in failing if c.sizes == show), failing[0])
    wrong = [~(np.abs(c.got - c.expected) <= bound) for c in failing]
    worst, problem_told = largest(np.concatenate([(c.got - c.expected).ravel() for c in failing])), list(lines)
    blank = tell_blank(lang, failing)
    lines += blank or [tell(
        lang,
        "attention output differs from the reference: {count} of {total} values, max |diff| {worst} ({allowed})",
        count=sum(int(w.sum()) for w in wrong), total=sum(w.size for w in wrong), worst=f"{worst:.3g}",
        allowed=tell_allowed(lang, allowed),
    )]  # fmt: skip
    lines.append(tell_first(lang, first, bound))
    lines += tell_read_out(lang, s, first.inputs, bound)
    diagnosis = diagnose([Vote(c.expected, c.got, bound) for c in done], AttentionSuspects(done, s.window))
    lines += tell_diagnosis(lang, diagnosis)
    smallest = smallest_failing(s, bound)
    if smallest is not None:
        lines.append("  " + tell(lang, "smallest : feed {feed} (queries: {queries}, keys: {keys})",
                                 feed=feed_of(*smallest), queries=smallest[0], keys=smallest[1]))  # fmt: skip
    if diagnosis.candidates:
        options = {"heads": s.heads, "kv-heads": s.kv_heads, "window": s.window, "queries": first.sizes[0],
                   "keys": first.sizes[1], "d-head": s.d_head if s.d_head != 8 else None,
                   "batch": s.batch if s.batch != 2 else None, "rotated": s.rotated, "cases": s.cases or None,
                   "seed": s.seed}  # fmt: skip
        lines.append(tell_command(lang, diagnosis, options))
    facts = {"diagnosis": ids_of(diagnosis), "max_abs_diff": worst, "allowed": bound, "smallest": list(smallest or ()),
             "failing": [list(c.sizes) for c in failing], "problem": problem_told}  # fmt: skip
    return OracleError("\n".join(lines), facts)


def assert_attention(
    function: Callable[..., Any], layout: str = "b t h d", *, heads: int = 4, kv_heads: int | None = None,
    d_head: int = 8, window: int | None = None, out: str | None = None, dtype: str = "float64",
    array: Callable[[Any], Any] = exact, batch: int = 2, cases: int = 0, seed: int = 0, allowed: float | None = None,
    rotated: bool = False, seconds: float = SECONDS, show: tuple[int, int] | None = None,
) -> None:  # fmt: skip
    """Is `function(q, k, v)` (with `window=W` where a window is asked) causal attention? q and k come rotated; the T
    queries are the last T of the S positions.

    Layouts are of the letters b t h d; the output has q's, unless `out` says another. `array` makes the inputs of NumPy
    arrays in `dtype`; `rotated` turns q and k by their positions before. A call may take `seconds`. `show`: the
    (queries, keys) whose failure is shown. OracleError: no, and the mistake's name. UsageError: a layout or sizes that
    make no sense.
    """
    __tracebackhide__ = True
    kv_heads = heads if kv_heads is None else kv_heads
    asked = {"heads": heads, "kv_heads": kv_heads, "d_head": d_head, "batch": batch}
    asked |= {} if window is None else {"window": window}
    for name, value in asked.items():
        check_whole(name, value, 1)
    for name, value in (("seed", seed), ("cases", cases)):
        check_whole(name, value, 0)
    if heads % kv_heads:
        raise UsageError(
            "heads must be a multiple of kv_heads and all sizes at least 1, got {heads} heads and {kv_heads} kv_heads",
            heads=heads,
            kv_heads=kv_heads,
        )
    if show is not None and not 1 <= show[0] <= show[1]:
        raise UsageError("show asks for {queries} queries and {keys} keys: the queries are the last of the keys",
                         queries=show[0], keys=show[1])  # fmt: skip
    shape = read_layout(layout)
    s = Setting(
        limited(function, seconds), shape, shape if out is None else read_layout(out), heads, kv_heads, d_head, window,
        batch if shape.batched else 1, format_name(dtype), array, seed, rotated, cases,
    )  # fmt: skip
    generator = np.random.default_rng(seed)
    more = [tuple(sorted(int(i) for i in generator.integers(1, 13, 2))) for _ in range(cases)]
    long = () if window is None else ((window + 2, 2 * window + 3), (window + 3, window + 3))
    sizes = [(t, n) for t, n in (*SIZES, *long, *more)]
    done = compare_all(s, sizes if show is None or show in sizes else [*sizes, show])
    came = [c.dtype for c in done if c.got is not None]
    name = coarser(came[0], s.dtype) if came else s.dtype
    own = 0.0 if allowed is not None else own_error(done, window, name)
    top = max(largest(c.expected) for c in done)
    bound = allow(name, own, top, allowed)
    refuse_all(bound, top)
    if any(c.problem is not None or c.fails(bound.value) for c in done):
        raise fail(s, done, bound, show)
