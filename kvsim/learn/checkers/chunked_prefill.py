"""07: the mask of T queries over n keys, of which the queries are the last."""

from functools import cache
from typing import Any

import numpy as np

from kvsim.comparisons.trace import trace
from kvsim.learn.answers import Answer
from kvsim.learn.checking import Given
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.independent.attention import AttentionInputs, LoopAttention
from kvsim.testing.subject.attention import Inputs, attend
from kvsim.testing.subject.calls import Problem, ShapeError, UnreadableError
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.facts import UNKNOWN

TEXT, CHUNK = "中华人民共和国", 3
HEADS, D_HEAD = 2, 4
FAR = -1e4  # an additive mask hides a key with this, or less


@cache
def cells(feed: str) -> int:
    """Score cells of the text, fed so into a cache."""
    return trace(TEXT, max_new_tokens=1, feed=feed).totals.cached.score_cells


def answers(seed: int) -> dict[str, Answer]:
    """The score cells of seven tokens, fed in three ways."""
    at_once, chunked, single = cells("prefill"), cells(f"chunk:{CHUNK}"), cells("token")
    squares = 2 * CHUNK**2 + 1
    return {
        "cells_at_once": Answer(at_once, {"masked_left_out": single, "one_row_alone": len(TEXT)}),
        "cells_in_chunks": Answer(chunked, {"masked_left_out": single, "past_forgotten": squares,
                                            "as_at_once": at_once}),
        "cells_one_by_one": Answer(single, {"as_at_once": at_once, "past_forgotten": len(TEXT)}),
    }  # fmt: skip


def check(given: Given) -> None:
    """OracleError: a query sees what it must not, or does not see what it must."""
    inverted = []

    def attention(q: Any, k: Any, v: Any) -> Any:
        t, n = q.shape[1], k.shape[1]
        seen = read(given.subject.call("mask", t, n), t, n)
        inverted.append(np.array_equal(seen, ~right(t, n)))
        with_batch = Inputs(*(x.transpose(1, 0, 2)[None] for x in (q, k, v)))
        return attend(WithMask(seen), with_batch, None)[0].transpose(1, 0, 2)

    try:
        assert_attention(attention, "h t d", heads=HEADS, d_head=D_HEAD, seed=given.seed)
    except OracleError as error:
        if error.facts.get("diagnosis") == [UNKNOWN] and inverted and all(inverted):
            problem = Problem("{name} is True where the key is hidden", {"name": "mask"})
            raise given.fail(problem, "mask_inverted") from None
        raise


def right(t: int, n: int) -> Any:
    """[T, n]: the reference's."""
    rows = np.zeros((t, 1, 1)), np.zeros((n, 1, 1)), np.zeros((n, 1, 1))
    return LoopAttention().allowed(AttentionInputs(*rows, np.arange(n - t, n), np.arange(n), None, 1.0))


class WithMask(LoopAttention):
    """The independent attention with a mask of the learner's."""

    def __init__(self, seen_TS: Any) -> None:
        self.seen = seen_TS

    def allowed(self, inputs: AttentionInputs) -> Any:
        return self.seen


def read(result: Any, t: int, n: int) -> Any:
    """The mask as booleans [T, n]; one that is added to scores is read too. ShapeError, UnreadableError."""
    try:
        found = np.asarray(result)
        numbers = found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UnreadableError("{name} gave {got}, expected booleans", name="mask", got=type(result).__name__) from error
    if found.shape != (t, n):
        raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}", name="mask",
                         got=list(found.shape), axes="queries, keys", expected=[t, n])  # fmt: skip
    added = bool((numbers <= FAR).any()) or (found.dtype.kind == "f" and not numbers.any())
    return numbers == 0 if added else numbers != 0
