"""03: which rows of Q, K and V a step reads, found out by putting NaN into them."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.learn.checking import Given
from kvsim.testing.feeds.plain_attention import attention
from kvsim.testing.subject.calls import Problem, UnreadableError

NAMES = ("Q", "K", "V")
STEPS = (1, 2, 3, 4, 7, 11)
D_HEAD = 4


class Rows(NamedTuple):
    """Numbers of rows, from 0."""

    q: frozenset[int]
    k: frozenset[int]
    v: frozenset[int]


def needed(t: int, seed: int) -> Rows:
    """The rows that change the output of the last of t positions if they are NaN."""
    arrays = np.random.default_rng((seed, t)).standard_normal((3, 1, 1, t, D_HEAD))
    found = []
    for which in range(len(NAMES)):
        rows = set()
        for row in range(t):
            poisoned = arrays.copy()
            poisoned[which, 0, 0, row] = np.nan
            if np.isnan(attention(*poisoned, causal=True).output[0, 0, -1]).any():
                rows.add(row)
        found.append(frozenset(rows))
    return Rows(*found)


def suspects(t: int) -> dict[str, Rows]:
    """The answers of known mistakes, by their ids."""
    new, old, all = frozenset([t - 1]), frozenset(range(t - 1)), frozenset(range(t))
    shifted = frozenset(range(1, t + 1))
    return {
        "q_rows_needed": Rows(all, all, all),
        "k_rows_missing": Rows(new, new, all),
        "v_rows_missing": Rows(new, all, new),
        "only_new_rows": Rows(new, new, new),
        "own_row_missing": Rows(new, old, old),
        "counted_from_one": Rows(frozenset([t]), shifted, shifted),
        "next_step": Rows(frozenset([t]), frozenset(range(t + 1)), frozenset(range(t + 1))),
    }


def check(given: Given) -> None:
    """OracleError: a row is missing, or needless."""
    got = {t: read(given.subject.call("reads", t)) for t in STEPS}
    right = {t: needed(t, given.seed) for t in STEPS}
    wrong = [t for t in STEPS if got[t] != right[t]]
    if not wrong:
        return
    ids = [id for id in suspects(1) if all(got[t] == suspects(t)[id] for t in STEPS)]
    t = next((t for t in wrong if t > 1), wrong[0])
    notes = [describe(t, name, mine, true) for name, mine, true in zip(NAMES, got[t], right[t], strict=True)
             if mine != true]  # fmt: skip
    raise given.fail(notes[0], *ids[:1], notes=tuple(notes[1:]))


def describe(t: int, name: str, mine: frozenset[int], true: frozenset[int]) -> Problem:
    """What NaN shows about the rows of one array in step t."""
    if needless := sorted(mine - true):
        inside = [row for row in needless if row < t]
        if not inside:
            return Problem("step {t}: there is no row {rows} of {name}, rows are 0 to {last}",
                           {"t": t, "name": name, "rows": needless, "last": t - 1})  # fmt: skip
        return Problem("step {t}: rows {rows} of {name} are not read: with NaN in them the output is the same",
                       {"t": t, "name": name, "rows": inside})  # fmt: skip
    return Problem("step {t}: rows {rows} of {name} are read, too: with NaN in one the output is NaN",
                   {"t": t, "name": name, "rows": sorted(true - mine)})  # fmt: skip


def read(result: Any) -> Rows:
    """The rows that the learner's function gave. UnreadableError: no three lists of row numbers."""
    parts = [result[name] for name in "qkv"] if isinstance(result, dict) and set(result) == set("qkv") else result
    try:
        rows = [np.asarray(part).reshape(-1).tolist() for part in parts]
    except (TypeError, ValueError):
        rows = []
    if len(rows) != len(NAMES) or not all(type(row) is int for part in rows for row in part):
        raise UnreadableError("{name} gave {got}, expected three lists of row numbers: q, k, v", name="reads",
                              got=repr(result)[:60])  # fmt: skip
    return Rows(*(frozenset(part) for part in rows))
