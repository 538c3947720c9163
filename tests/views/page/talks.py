"""Comparisons and conversations for tests of their pages."""

from dataclasses import replace
from functools import cache
from typing import Any

import kvsim
from kvsim.comparisons.chat_script import run_chat
from kvsim.comparisons.chat_script_record import Chat
from kvsim.comparisons.policies_record import PolicyComparison
from kvsim.text import Piece
from tests.models import demo
from tests.views.page.traces import HOSTILE

SIXTEEN = "床前明月光，疑是地上霜。举头望明"


@cache
def sixteen() -> PolicyComparison:
    """Sixteen tokens, one a step, through two caches that evict."""
    return kvsim.compare(SIXTEEN, demo(), ["sinks:2+5", "h2o:6"], 1, "token", history=True)


@cache
def whole_prompt() -> PolicyComparison:
    """A prompt fed at once, a lossless cache among lossy ones, and choices that differ from the reference's."""
    return kvsim.compare(SIXTEEN, demo(), ["knorm:2", "paged:4", "none"], 6, "prefill", history=True)


@cache
def hostile_comparison() -> PolicyComparison:
    """`sixteen` with other texts of its tokens."""
    found = sixteen()
    prompt = tuple(Piece(piece.id, HOSTILE[i % 7]) for i, piece in enumerate(found.prompt))
    choices = tuple(Piece(piece.id, HOSTILE[i % 7]) for i, piece in enumerate(found.choices))
    return replace(found, text=HOSTILE[0], prompt=prompt, choices=choices)


@cache
def long_comparison() -> PolicyComparison:
    """Two hundred tokens: rows are drawn as areas; one cache does not tell which it holds."""
    found = kvsim.compare([i % 90 for i in range(200)], demo(), ["window:30", "h2o:20"], 3, "chunk:20", history=True)
    window, h2o = found.runs
    assert h2o.history is not None
    return replace(found, runs=(window, replace(h2o, history=replace(h2o.history, evicted=None, left_out="untold"))))


@cache
def alone() -> PolicyComparison:
    """The reference with nothing to compare."""
    return kvsim.compare("中华", demo(), "dynamic", 2, history=True)


@cache
def edited() -> Chat:
    """Three turns, a fork after the first, and two edits of the second."""
    return run_chat(
        ["什么是KV缓存？", "床前明月光，", "今天天气"], demo(), forks=[(1, "中华人民")],
        edits=[(2, "床前白日依山尽，"), (2, "白日")], pieces=True,
    )  # fmt: skip


@cache
def restarted() -> Chat:
    """An edit under a cache that cannot be cropped."""
    return run_chat(["床前明月光，", "今天天气"], demo(), "h2o:6", 3, edits=[(2, "白日")], pieces=True)


@cache
def hostile_chat() -> Chat:
    """`edited` with other texts of its tokens."""
    chat = edited()
    pieces = tuple(Piece(piece.id, HOSTILE[i % 7]) for i, piece in enumerate(chat.pieces))
    lines = tuple(line._replace(turn=replace(line.turn, text=HOSTILE[0], reply=HOSTILE[1])) for line in chat.lines)
    return replace(chat, pieces=pieces, lines=lines)


def expect_states(comparison: PolicyComparison, run: Any, step: int, layer: int, head: int) -> list[str]:
    """The states of the rows after a step, from the record."""
    stop, before = comparison.stops[step - 1], comparison.stops[step - 2] if step > 1 else 0
    fates = run.history.evicted[layer][head][:stop]
    return [
        "zero" if 0 < e < step else "masked" if e == step else "key" if i >= before else "cached"
        for i, e in enumerate(fates)
    ]
