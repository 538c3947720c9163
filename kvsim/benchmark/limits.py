"""This machine's limits, measured: how fast it reads, how fast it multiplies; and its memory."""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from kvsim.arrays import Backend
from kvsim.arrays.host import usable_processors

Clock = Callable[[Callable[[], Any]], float]  # seconds that a call takes


def make_clock(backend: Backend) -> Clock:
    """The processor's clock; on a GPU its own events, since a call returns before the device is done."""
    if backend.name == "cupy":
        import cupy

        return _event_clock(cupy.cuda.Event, lambda end: end.synchronize(), cupy.cuda.get_elapsed_time)
    if backend.name == "torch" and backend.device.type == "cuda":
        import torch

        event: Any = torch.cuda.Event
        return _event_clock(
            lambda: event(enable_timing=True), lambda end: end.synchronize(), lambda a, b: a.elapsed_time(b)
        )

    def clock(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return clock


def _event_clock(
    make: Callable[[], Any], wait: Callable[[Any], Any], milliseconds: Callable[[Any, Any], float]
) -> Clock:
    def clock(call: Callable[[], Any]) -> float:
        start, end = make(), make()
        start.record()
        call()
        end.record()
        wait(end)
        return milliseconds(start, end) / 1000.0

    return clock


def _ones(backend: Backend, dtype: str, *shape: int) -> Any:
    """Written, so that its memory is there: pages that nobody has written to read as one and the same."""
    made = backend.xp.empty(shape, dtype=backend.dtype(dtype), device=backend.device)
    made[...] = backend.xp.astype(backend.xp.arange(0, 1, device=backend.device), made.dtype) + 1.0
    return made


SHAPES = ((8192, 8192), (32768, 2048), (65536, 1024))  # 64 Mi numbers each, far more than any cache holds


def measure_limits(backend: Backend, dtype: str, repeats: int = 7) -> tuple[float, float]:
    """Bytes a second with which matrices far larger than any cache are read (times one row, as decoding does; the
    best of several shapes), and floating-point operations a second of a 1024 · 1024 · 1024 product. Medians."""
    xp, clock = backend.xp, make_clock(backend)
    with backend.running():
        reads = []
        for n, k in SHAPES:
            wide, row = _ones(backend, dtype, n, k), _ones(backend, dtype, 1, k)
            across = xp.matrix_transpose(wide)
            xp.matmul(row, across)  # warm
            times = [clock(lambda row=row, across=across: xp.matmul(row, across)) for _ in range(repeats)]  # type: ignore[misc]
            reads.append(n * k * (int(xp.finfo(wide.dtype).bits) // 8) / statistics.median(times))
        square = _ones(backend, dtype, 1024, 1024)
        xp.matmul(square, square)
        multiply = statistics.median(clock(lambda: xp.matmul(square, square)) for _ in range(repeats))
    return max(reads), 2 * 1024**3 / multiply


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where nobody tells."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def peak_memory() -> int | None:
    """The most bytes that this process has had in memory; None on systems without getrusage."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_machine() -> str:
    """The processor's name, and how many this process may use."""
    name = "?"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    except OSError:
        import platform

        name = platform.processor() or "?"
    return f"{name} x{usable_processors()}"
