"""Results of `kvsim verify` for tests of the page, without a process of their own."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.subject.calls import Problem
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import AttentionFailure, Failure
from kvsim.testing.verifying import BROKEN, FINE, WRONG, Found
from tests.views.page.traces import HOSTILE

MESSAGE = "\n".join(HOSTILE)


def attend(q: Any, k: Any, v: Any, far: bool = False) -> Any:
    """Attention [B, T, H, K] whose mask is not shifted by the cache length, or by one too many (`far`)."""
    (_, t, h, d), s = q.shape, k.shape[1]
    k, v = (np.repeat(x, h // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(d)
    scores = np.where(np.tril(np.ones((t, s), bool), s - t + 1 if far else 0), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("bhts,bshd->bthd", weights / weights.sum(axis=-1, keepdims=True), v)


@cache
def wrong_attention(far: bool = False) -> Found:
    """An attention function with the mask `mask_top_left`, or one that lets each query see the next key, too."""
    try:
        assert_attention(lambda q, k, v: attend(q, k, v, far), "b t h d", heads=4, kv_heads=2)
    except OracleError as error:
        return Found(WRONG, str(error), "", "attention", error.facts, failure=error.failure, target="mine.py:attend")
    raise AssertionError("it is wrong")


def hostile_failure() -> Found:
    """A failure whose messages and target hold what would run in a page."""
    failure = Failure(
        headlines=(Problem("the code printed: {text}", {"text": MESSAGE}),),
        notes=(Problem("the code printed: {text}", {"text": "<img src=x onerror='window.pwned=1'>"}),),
        named=(),
    )
    error = OracleError(failure)
    return Found(WRONG, str(error), "", "decoder", error.facts, failure=failure, target=f"{HOSTILE[0]}.py:it")


def sees_the_next() -> Found:
    return wrong_attention(True)


def many_keys() -> Found:
    """A failure whose matrices are of 80 queries and 100 keys."""
    found = wrong_attention()
    assert isinstance(found.failure, AttentionFailure)
    assert found.failure.weights is not None
    got, expected = (np.tril(np.ones((80, 100), bool), offset) for offset in (22, 20))
    weights = found.failure.weights._replace(got_TS=got, expected_TS=expected)
    return found._replace(failure=replace(found.failure, weights=weights))


def right() -> Found:
    return Found(FINE, "", "", "cache", edits=("crop",), target="mine.py:Cache", seed=3)


def broken() -> Found:
    return Found(BROKEN, MESSAGE, target="mine.py:Cache")
