"""01: the work of a generation without a cache and with one, counted by hand. The right numbers are read from a run."""

from functools import cache
from typing import Any, NamedTuple

from kvsim.comparisons.trace import trace
from kvsim.learn.answers import Answer

TEXT, NEW = "中华人民", 4  # the tutorial's example: seven steps
SMALLEST, LARGEST = 9, 23  # of the learner's own n


class Work(NamedTuple):
    """Of n steps, one token each: score cells and projected rows, without a cache and with one."""

    cells: list[int]
    cached_cells: list[int]
    rows: int
    cached_rows: int


@cache
def count(n: int) -> Work:
    """The work of n steps, from the ledgers of two runs."""
    done = trace(TEXT, max_new_tokens=n - len(TEXT) + 1)
    total = done.totals
    return Work(
        [step.no_cache.counts.score_cells for step in done.steps],
        [step.cached.counts.score_cells for step in done.steps],
        total.no_cache.projected_rows,
        total.cached.projected_rows,
    )


def facts(seed: int) -> dict[str, Any]:
    """The learner's own n."""
    return {"n": SMALLEST + seed % (LARGEST - SMALLEST + 1)}


def answers(seed: int) -> dict[str, Answer]:
    """The questions of answers.toml."""
    seven, own, n = count(len(TEXT) + NEW - 1), count(facts(seed)["n"]), facts(seed)["n"]
    steps = list(range(1, len(seven.cells) + 1))
    return {
        "cells_each_step": Answer(seven.cells, {
            "cache_assumed": steps, "one_step_too_many": [i * i for i in steps[1:]] + [(steps[-1] + 1) ** 2],
            "masked_left_out": [i * (i + 1) // 2 for i in steps]}),
        "cells_each_step_cached": Answer(seven.cached_cells, {
            "one_step_too_many": [i + 1 for i in steps], "one_cell_a_step": [1] * len(steps),
            "cache_forgotten": [i * i for i in steps]}),
        **{f"{name}": one for name, one in _totals("total", seven, steps[-1]).items()},
        **{f"{name}": one for name, one in _totals("own", own, n).items()},
    }  # fmt: skip


def _totals(prefix: str, work: Work, n: int) -> dict[str, Answer]:
    """The four totals of n steps."""
    cells, cached = sum(work.cells), sum(work.cached_cells)
    more, more_cached = cells + (n + 1) ** 2, cached + n + 1
    return {
        f"{prefix}_cells": Answer(cells, {"cache_assumed": cached, "one_step_too_many": more,
                                          "one_step_too_few": cells - n * n, "last_step_alone": n * n,
                                          "masked_left_out": n * (n + 1) * (n + 2) // 6}),
        f"{prefix}_cells_cached": Answer(cached, {"cache_forgotten": cells, "one_step_too_many": more_cached,
                                                  "one_step_too_few": cached - n, "one_cell_a_step": n}),
        f"{prefix}_rows": Answer(work.rows, {"projections_forgotten": 0, "one_of_three": work.rows // 3,
                                             "query_left_out": work.rows * 2 // 3,
                                             "one_step_too_many": work.rows + 3 * (n + 1),
                                             "cache_assumed": work.cached_rows}),
        f"{prefix}_rows_cached": Answer(work.cached_rows, {"projections_forgotten": 0,
                                                           "one_of_three": work.cached_rows // 3,
                                                           "query_left_out": work.cached_rows * 2 // 3,
                                                           "one_step_too_many": work.cached_rows + 3,
                                                           "cache_forgotten": work.rows}),
    }  # fmt: skip
