"""An attention function under test, run on inputs of several sizes: what it returns and what is expected."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.feeds.feeding import Smallest
from kvsim.testing.feeds.plain_attention import attention
from kvsim.testing.independent.attention import LoopAttention
from kvsim.testing.independent.rounding import rounding
from kvsim.testing.subject.attention import Inputs, Setting, attend, call_attention, make_inputs
from kvsim.testing.subject.calls import Problem, UnreadableError, equal, max_abs

# (queries, keys): chunks after a past, a whole text, a decode step, the smallest; past 16 queries and past 32 keys.
SIZES = ((3, 7), (7, 7), (1, 7), (1, 1), (2, 3), (6, 6), (4, 9), (18, 35))
NAN_SIZES = ((3, 7), (1, 7), (5, 5))  # of the calls with NaN in the rows of a buffer that were never written
MOST_KEYS = 7  # of the calls that are tried to reproduce a failure


class Comparison(NamedTuple):
    """One pair of sizes (queries, keys)."""

    sizes: tuple[int, int]
    inputs: Inputs
    got: Any  # [B, T, H, D]; None: a problem
    expected: Any
    dtype: str
    problem: Problem | None = None
    nan: bool = False  # do the rows of a buffer that were never written hold NaN?

    def fails(self, allowed: float) -> bool:
        return self.got is not None and not equal(self.got, self.expected, allowed)


def expected_output(inputs: Inputs, window: int | None, dtype: str = "float64") -> Any:
    """The output [B, T, H, D] of the transformer's own attention, computed in `dtype`."""
    if inputs.lengths is not None:
        return np.concatenate([expected_output(valid_rows(inputs, i), window, dtype) for i in range(len(inputs.q))])
    q, k, v = (x.transpose(0, 2, 1, 3).astype(dtype) for x in inputs[:3])
    t, n = q.shape[2], k.shape[2]
    past = None if t == n else k[:, :, : n - t]
    past_v = None if t == n else v[:, :, : n - t]
    left = None if window is None else window - 1
    result = attention(q, k[:, :, n - t :], v[:, :, n - t :], causal=True, past_key=past, past_value=past_v,
                       left_window=left)  # fmt: skip
    return result.output.transpose(0, 2, 1, 3).astype(np.float64)


def valid_rows(inputs: Inputs, sequence: int) -> Inputs:
    """One sequence of a buffer, without the rows that were never written."""
    one, length = slice(sequence, sequence + 1), int(inputs.lengths[sequence])
    return Inputs(inputs.q[one], inputs.k[one, :length], inputs.v[one, :length])


def compare(s: Setting, number: int, sizes: tuple[int, int], nan: bool = False) -> Comparison:
    """One call, on the inputs of this number."""
    inputs = make_inputs(s, number, sizes, nan)
    expected = expected_output(inputs, s.window)
    try:
        got, dtype = call_attention(s, inputs)
    except UnreadableError as error:
        return Comparison(sizes, inputs, None, expected, s.dtype, _at(error.problem, sizes), nan)
    return Comparison(sizes, inputs, got, expected, dtype, nan=nan)


def _at(problem: Problem, sizes: tuple[int, int]) -> Problem:
    """With the numbers of queries and keys with which it came up."""
    return problem._replace(values=problem.values | {"queries": sizes[0], "keys": sizes[1]})


def compare_all(s: Setting, sizes: list[tuple[int, int]], nan: bool = True) -> list[Comparison]:
    """Each of the sizes in turn, then with `nan` those of NAN_SIZES if there is a buffer; none after a call that ends
    the check."""
    done: list[Comparison] = []
    more = [(pair, True) for pair in NAN_SIZES] if nan and s.buffer is not None else []
    for i, (pair, blank) in enumerate([*((pair, False) for pair in sizes), *more]):
        done.append(compare(s, i, pair, blank))
        if (problem := done[-1].problem) is not None and problem.fatal:
            break
        if done[-1].got is not None and done[-1].dtype != (first := done[0].dtype) and done[0].got is not None:
            mixed = Problem("attention gave {got} after it gave {before}, expected one dtype",
                            {"got": done[-1].dtype, "before": first})  # fmt: skip
            done[-1] = done[-1]._replace(got=None, problem=_at(mixed, pair))
    return done


def own_error(done: list[Comparison], window: int | None, dtype: str) -> float:
    """The largest |difference| of the reference's own runs in `dtype` from its run in float64."""
    emulated = LoopAttention()
    emulated.round = rounding(dtype)
    worst = 0.0
    for c in done:
        runs = [attend(emulated, c.inputs, window)]
        runs[0] = emulated.round(runs[0])
        if dtype in ("float32", "float16"):
            runs.append(expected_output(c.inputs, window, dtype))
        worst = max([worst, *(max_abs(run - c.expected) for run in runs)])
    return worst


def smallest_failing(s: Setting, allowed: float, nan: bool = False) -> Smallest:
    """(queries, keys) of the failure with the fewest keys, then the fewest queries. `nan`: as `make_inputs` takes
    it."""
    unread = False
    for n in range(1, MOST_KEYS + 1):
        for t in range(1, n + 1):
            compared = compare(s, 1000 + 10 * n + t, (t, n), nan)
            if compared.fails(allowed):
                return Smallest((t, n), n, unread)
            if compared.problem is not None and compared.problem.fatal:
                return Smallest(None, n - 1, unread)
            unread = unread or compared.problem is not None
    return Smallest(None, MOST_KEYS, unread)
