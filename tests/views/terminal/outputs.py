"""The output of every command as parts, from small runs that are made once for all tests."""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import kvsim
from kvsim.benchmark.record import Benchmark, Point, Prefill
from kvsim.comparisons.chat_script import run_chat
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.policies import list_policies
from kvsim.costs.claims import list_claims
from kvsim.costs.plans.grid import Axes, make_grid
from kvsim.costs.plans.planning import plan
from kvsim.costs.plans.remedies import find_remedies
from kvsim.costs.plans.sweep import run_sweep
from kvsim.costs.public.devices import find_device
from kvsim.costs.work.conventions import CONVENTIONS
from kvsim.costs.work.roofline import Limits
from kvsim.doctor.health import Check, Health
from kvsim.i18n.language import Say
from kvsim.views.terminal import bench as bench_view
from kvsim.views.terminal import caches, cells, chat, claims, cost, memory, oracle, policies, results, sweep
from kvsim.views.terminal import health as health_view
from kvsim.views.terminal import plan as plan_view
from kvsim.views.terminal import trace as trace_view
from kvsim.views.terminal import trace_tables as tables
from kvsim.views.terminal.sheet import Part

POEM = "床前明月光，疑是地上霜。举头望明月"


@cache
def demo() -> Any:
    return kvsim.load("demo")


@cache
def make(name: str) -> Any:
    """A record, made when it is first used."""
    return _MAKERS[name]()


def _bench() -> Benchmark:
    points = [
        Point(
            n,
            [0.001234, 0.00125, 0.0013],
            [0.012345 * n, 0.0125 * n, 0.013 * n],
            [0.002, 0.0021, 0.0023],
            10**6,
            n * 10**6,
            5 * 10**5,
        )
        for n in (16, 512, 1024)
    ]
    machine = "a processor with a name of some length, 2 usable"
    return Benchmark("gpt2", 124_439_808, "float32", "numpy", "square", machine, 1.2e10, 5e10, "transformers", 10**9,
                     16, 1024, Prefill(16, [0.01], 10**8), points)  # fmt: skip


def _health() -> Health:
    works = Check(True, "[2, 3]·[3, 2] = [[5.0, 14.0], [14.0, 50.0]], and a detail that needs a second line of text")
    return Health(
        {"kvsim": "0.1.0", "cupy": None}, "Linux-6.18-x86_64-with-a-long-name-of-its-own-and-glibc2.36",
        {"numpy": works, "cupy": Check(False, "no such library", True)}, "openblas 0.3", (2, 2), 1,
        {"square": None, "blocked": 128}, {"OMP_NUM_THREADS": "1"},
        {"tty": True, "columns": 60, "encoding": "utf-8"}, works,
    )  # fmt: skip


def _tolerance() -> Any:
    return SimpleNamespace(
        sizes=SimpleNamespace(layers=2, heads=4, kv_heads=2, d_head=8), context=128, largest=2.5, dtype="bfloat16",
        emulated=0.0125, own=0.011, allowed=SimpleNamespace(floor=0.15, own=0.0125, value=3.0),
    )  # fmt: skip


_MAKERS: dict[str, Callable[[], Any]] = {
    "trace": lambda: kvsim.trace("中华人民", demo()),
    "long": lambda: kvsim.trace(POEM * 2, demo(), 26, "chunk:3"),
    "compare": lambda: kvsim.compare(POEM, demo(), ["none", "static:64", "window:4", "sinks:2+5", "int8"], 6),
    "chat": lambda: run_chat(
        ["你好！", "今天天气", POEM * 2], demo(), "dynamic", 4, forks=[(1, "白日依山尽，")], edits=[(2, "今天")]
    ),
    "caches": lambda: list_policies("llama-3.1-405b", "bfloat16"),
    "memory": lambda: measure_memory("gemma-3-27b-pt", [4096, 131072], batch=8),
    "int4": lambda: measure_memory("gemma-2-9b", [8192], cache_dtype="int4:zero"),
    "plan": lambda: plan("llama-2-70b-hf", "h200", 10_000_000, devices=16, dtype="int8"),
    "sweep": lambda: [
        row
        for chunk in run_sweep(make_grid(Axes(["gpt2", "mistral-7b-v0.1"], ["t4", "h200"], [1024], [16])), None)
        for row in chunk
    ],
    "cost": lambda: kvsim.cost("deepseek-v3", prompt=3969, new=128),
    "claims": lambda: [c for i, c in enumerate(list_claims()) if i < 4 or c.id in claims.QUESTIONS],
    "bench": _bench,
    "health": _health,
    "tolerance": _tolerance,
    "run": lambda: kvsim.generate(demo(), POEM, 30),
    "count": lambda: kvsim.count("llama-3.1-405b", prompt=4096, new=3),
}


def _cost(say: Say) -> list[Part]:
    device = find_device("h100-80gb")
    limits = Limits(device.peak("bfloat16"), device.bandwidth, 0)
    return cost.cost_parts(make("cost"), CONVENTIONS, device, limits, say)


def _shapes(say: Say, ascii_only: bool) -> list[Part]:
    return tables.shapes_parts(make("trace"), say, None, ascii_only)


OUTPUTS: dict[str, Callable[[Say, bool], list[Part]]] = {
    "trace": lambda say, a: trace_view.trace_parts(make("trace"), say, "cells", 40, a),
    "trace macs": lambda say, a: trace_view.trace_parts(make("long"), say, "macs", 7, a, True),
    "trace cells": lambda say, a: cells.cells_parts(make("trace"), say, 4, a),
    "trace cells long": lambda say, a: cells.cells_parts(make("long"), say, None, a),
    "trace shapes": _shapes,
    "trace sites": lambda say, a: tables.sites_parts(make("long"), say),
    "trace memory": lambda say, a: tables.memory_parts(make("long"), say, 9, a),
    "compare": lambda say, a: policies.comparison_parts(make("compare"), say),
    "chat": lambda say, a: chat.chat_parts(make("chat"), say, a),
    "caches": lambda say, a: caches.policies_parts(make("caches"), say),
    "memory": lambda say, a: memory.memory_parts(make("memory"), say, "a source", True),
    "memory int4": lambda say, a: memory.memory_parts(make("int4"), say),
    "plan": lambda say, a: plan_view.plan_parts(make("plan"), find_remedies(make("plan")), say),
    "sweep": lambda say, a: sweep.sweep_parts(make("sweep"), say),
    "cost": lambda say, a: _cost(say),
    "claims": lambda say, a: claims.claims_parts(make("claims"), say),
    "bench": lambda say, a: bench_view.bench_parts(make("bench"), say),
    "doctor": lambda say, a: [*health_view.health_lines(make("health"), say)],
    "tolerance": lambda say, a: [*oracle.tolerance_lines(make("tolerance"), say)],
    "run": lambda say, a: results.run_parts(make("run"), say),
    "count": lambda say, a: results.count_parts(make("count"), say),
}
