"""What a notebook shows of each result: as text the terminal's table, as HTML the same table, or a frame.

`TELLERS` is the one place that says which view tells which record. `kvsim/schemas/display.py` says how records, which
stand below the views, get here.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from kvsim.benchmark.record import Benchmark
from kvsim.comparisons.chat_script_record import Chat
from kvsim.comparisons.conversation import Conversation
from kvsim.comparisons.conversation_record import Turn
from kvsim.comparisons.policies_record import PolicyComparison
from kvsim.comparisons.trace_record import Trace
from kvsim.costs.bytes.memory import Memory
from kvsim.costs.bytes.policies import Policies
from kvsim.costs.plans.planning import Plan
from kvsim.costs.work.conventions import CONVENTIONS
from kvsim.costs.work.cost import Cost
from kvsim.costs.work.counter import Count
from kvsim.counting.ledger import Ledger
from kvsim.doctor.health import Health
from kvsim.generation.runs import Run, Step
from kvsim.i18n.language import Say, choose_language, words
from kvsim.testing.tolerances import Tolerance
from kvsim.testing.verdict.failure import Diagnosis, Failure
from kvsim.testing.verdict.sections import render
from kvsim.testing.verdict.text import describe_diagnosis
from kvsim.views.frame import frame_trace
from kvsim.views.html_table import to_html
from kvsim.views.terminal import bench, caches, chat, cost, health, memory, oracle, plan, policies, results, trace
from kvsim.views.terminal.screen import Screen, terminal_width
from kvsim.views.terminal.sheet import Part
from kvsim.views.terminal.table import lay_out


class Teller(NamedTuple):
    """`parts`: lines and tables. `html`: what a notebook shows instead of them; None: the same as HTML tables."""

    parts: Callable[[Any, Say], list[Part]]
    html: Callable[[Any, Say], str] | None = None


TELLERS: dict[type, Teller] = {
    Trace: Teller(trace.trace_parts, frame_trace),
    PolicyComparison: Teller(policies.comparison_parts),
    Conversation: Teller(results.conversation_parts),
    Turn: Teller(results.turn_parts),
    Chat: Teller(chat.chat_parts),
    Run: Teller(results.run_parts),
    Step: Teller(results.step_parts),
    Ledger: Teller(results.ledger_parts),
    Count: Teller(results.count_parts),
    Cost: Teller(lambda found, say: cost.cost_parts(found, CONVENTIONS, None, None, say)),
    Memory: Teller(memory.memory_parts),
    Policies: Teller(caches.policies_parts),
    Plan: Teller(lambda found, say: plan.plan_parts(found, (), say)),
    Benchmark: Teller(bench.bench_parts),
    Failure: Teller(lambda failure, say: [*render(failure, say).split("\n")]),
    Diagnosis: Teller(lambda found, say: [*describe_diagnosis(found, say)]),
    Tolerance: Teller(lambda found, say: [*oracle.tolerance_lines(found, say)]),
    Health: Teller(lambda found, say: [*health.health_lines(found, say)]),
}


def find_teller(result: object) -> Teller:
    """The teller of the result's class, or of the first of its bases that has one."""
    return next(TELLERS[kind] for kind in type(result).__mro__ if kind in TELLERS)


def display(result: object) -> dict[str, str]:
    """The result as "text/plain", in the width of the terminal if stdout is one, and as "text/html"; in the language of
    KVSIM_LANG, else of the locale. UsageError: KVSIM_LANG is no language."""
    language = choose_language(None, os.environ)
    say, teller = words(language), find_teller(result)
    parts = teller.parts(result, say)
    html = to_html(parts, language) if teller.html is None else teller.html(result, say)
    return {"text/plain": lay_out(parts, say, Screen(terminal_width())), "text/html": html}
