"""A time limit for calls of the code under test: by SIGALRM in the main thread, by a second thread elsewhere.

Only Python code can be interrupted. A call that hangs inside C code is stopped only by `kvsim verify`, which runs the
code in a child process.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvsim.checks import check_function, check_number
from kvsim.errors import UsageError, shortened

SECONDS = 60.0  # the default limit of one call
LONGEST = 1e9  # no timer takes an infinity


class TimeLimitError(BaseException):
    """A call ran into its time limit. Not an Exception, so that code which retries after every Exception does not catch
    it."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def limited(function: Callable[..., Any], seconds: float, name: str = "function") -> Callable[..., Any]:
    """`function`, the argument `name` of a check, every call of which raises TimeLimitError after `seconds`.

    UsageError: `seconds` is not above 0, or `function` cannot be called."""
    check_function(name, function)
    if not check_number("seconds", seconds) > 0:
        raise UsageError("seconds= is above 0, got {seconds}", seconds=shortened(seconds))
    seconds = min(float(seconds), LONGEST)

    def call(*args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        with time_limit(seconds):
            return function(*args, **keywords)

    call.__name__ = getattr(function, "__name__", type(function).__name__)
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimitError inside the block after `seconds`."""
    main = threading.current_thread() is threading.main_thread()
    # getsignal is None where C code has installed the handler: it could not be restored, so the thread is used.
    timed = main and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is not None
    with limit_by_signal(seconds) if timed else limit_by_thread(seconds):
        yield


@contextmanager
def limit_by_signal(seconds: float) -> Iterator[None]:
    """A time limit by SIGALRM. A timer that is already set, as by pytest-timeout, is preserved: if it is due first, it
    stays in force and no limit is set; otherwise it is set again afterwards, for the time that it has left."""
    remaining, interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < remaining <= seconds:
        yield
        return
    over = False

    def fire(number: int, frame: Any) -> None:
        if not over:
            raise TimeLimitError(seconds)

    started, handler = time.monotonic(), signal.signal(signal.SIGALRM, fire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        try:
            yield
        finally:
            over = True
    finally:  # an outer finally, because the timer may fire between the end of the block and `over = True`
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - started), 1e-3), interval)


@contextmanager
def limit_by_thread(seconds: float) -> Iterator[None]:
    """A time limit by a thread that raises TimeLimitError in this one, between two bytecode instructions."""
    ident, lock, over = threading.get_ident(), threading.Lock(), False

    def fire() -> None:
        with lock:
            if not over:
                raise_in(ident, TimeLimitError)

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                over = True
            timer.cancel()
    except TimeLimitError:
        raise TimeLimitError(seconds) from None


def raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise `error` in another thread, given by its identifier."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
