"""02: causal attention of T queries over S keys, for one text."""

from typing import Any

from kvsim.learn.checking import Given
from kvsim.testing.checks.attention import assert_attention

HEADS, D_HEAD = 2, 4


def check(given: Given) -> None:
    """OracleError: the function is wrong."""

    def attention(q: Any, k: Any, v: Any) -> Any:
        return given.subject.call("attention", q, k, v)

    assert_attention(attention, "h t d", heads=HEADS, d_head=D_HEAD, seed=given.seed,
                     dtype=given.subject.dtype)  # fmt: skip
