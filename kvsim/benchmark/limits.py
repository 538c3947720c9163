"""The limits of this machine: its read speed and its speed of matrix products, measured; and its memory."""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from kvsim.arrays import Backend
from kvsim.arrays.host import usable_processors

Clock = Callable[[Callable[[], Any]], float]  # calls a function, returns the seconds that it took


def make_clock(backend: Backend) -> Clock:
    """A clock of the host; on a GPU one of device events, because a call returns before the device has finished."""
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
    """A clock of a library's device events: how to make one, wait for one, and get the time between two."""

    def clock(call: Callable[[], Any]) -> float:
        start, end = make(), make()
        start.record()
        call()
        end.record()
        wait(end)
        return milliseconds(start, end) / 1000.0

    return clock


def _ones(backend: Backend, dtype: str, *shape: int) -> Any:
    """An array of ones, every page written: pages that were never written may all map to one page of zeros."""
    made = backend.xp.empty(shape, dtype=backend.dtype(dtype), device=backend.device)
    made[...] = backend.xp.astype(backend.xp.arange(0, 1, device=backend.device), made.dtype) + 1.0
    return made


SHAPES = ((8192, 8192), (32768, 2048), (65536, 1024))  # 64 Mi numbers each, far more than any processor cache


def measure_limits(backend: Backend, dtype: str, repeats: int = 7) -> tuple[float, float]:
    """Bytes read per second and floating-point operations per second, medians of `repeats`.

    Reads: one row times a matrix far larger than any processor cache, as in decoding; the best of SHAPES. Operations:
    a product of 1024 × 1024 matrices.
    """
    xp, clock = backend.xp, make_clock(backend)
    with backend.running():
        reads = []
        for n, k in SHAPES:
            wide, row = _ones(backend, dtype, n, k), _ones(backend, dtype, 1, k)
            across = xp.matrix_transpose(wide)
            xp.matmul(row, across)  # untimed: the first call allocates
            times = [clock(lambda row=row, across=across: xp.matmul(row, across)) for _ in range(repeats)]  # type: ignore[misc]
            reads.append(n * k * (int(xp.finfo(wide.dtype).bits) // 8) / statistics.median(times))
        square = _ones(backend, dtype, 1024, 1024)
        xp.matmul(square, square)
        multiply = statistics.median(clock(lambda: xp.matmul(square, square)) for _ in range(repeats))
    return max(reads), 2 * 1024**3 / multiply


def free_memory() -> int | None:
    """Bytes that can be allocated without swapping; None if the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def peak_memory() -> int | None:
    """The largest resident size of this process in bytes; None on systems without getrusage."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_machine() -> str:
    """The processor's name ("?": unknown) and the number that this process may use, as "NAME xN"."""
    name = "?"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    except OSError:
        import platform

        name = platform.processor() or "?"
    return f"{name} x{usable_processors()}"
