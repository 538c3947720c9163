"""Calls shared among processes, with their results in the order of the calls.

Worker i makes every n-th call from the i-th on and sends each result through a pipe of its own, which it fills only as
fast as it is read. Ctrl-C is the parent's: workers ignore it, and are killed when the parent is done with them.
"""

import contextlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from kvsim.errors import BackendError


class Worker(NamedTuple):
    """A process, and the parent's end of its pipe."""

    process: Any
    results: Any


def call_in_processes(
    make: Callable[..., Any], calls: Sequence[tuple[Any, ...]], count: int
) -> Generator[Any, None, None]:
    """`make(*call)` for every call, in order, from `count` processes. They are gone when the iterator is closed, or
    ended by an error.

    BackendError: a process cannot be started, or died. An error that `make` raises is raised here.
    """
    workers: list[Worker] = []
    try:
        with _interrupts_held_back():
            for number in range(count):
                workers.append(_start(make, calls[number::count]))
        for number in range(len(calls)):
            result, error = _receive(workers[number % count])
            if error is not None:
                raise error
            yield result
    finally:
        with _interrupts_held_back():
            _end(workers)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """SIGINT comes after the block. A process that starts inside it does not get SIGINT at all."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(make: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Worker:
    """A worker that makes these calls."""
    from multiprocessing import Pipe, Process

    ours, theirs = Pipe(duplex=False)
    process = Process(target=_work, args=(theirs, make, calls), daemon=True)
    try:
        process.start()
    except OSError as error:
        ours.close()
        raise BackendError(
            "cannot start a process for the sweep: {reason}", reason=error.strerror or str(error)
        ) from error
    finally:
        theirs.close()  # so that the worker's own end is the last one
    return Worker(process, ours)


def _work(results: Any, make: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> None:
    """A worker: sends (result, None), or (None, the error that ends it)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the parent is gone
        for call in calls:
            try:
                answer = (make(*call), None)
            except Exception as error:  # is raised in the parent
                results.send((None, error))
                return
            results.send(answer)


def _receive(worker: Worker) -> tuple[Any, Exception | None]:
    """What the worker sends next. BackendError: it died."""
    from multiprocessing.connection import wait

    wait([worker.results, worker.process.sentinel])  # a worker that started later may hold the pipe open
    try:
        if worker.results.poll():
            found: tuple[Any, Exception | None] = worker.results.recv()
            return found
    except (EOFError, OSError):  # it died, in the middle of a result if it is an OSError
        pass
    raise BackendError("a process of the sweep died: run it again, or on a machine with more memory")


def _end(workers: Sequence[Worker]) -> None:
    """Kill the workers, whatever they do."""
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.results.close()
