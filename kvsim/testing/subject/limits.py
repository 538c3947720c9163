"""A time limit for somebody else's code: in the main thread by the system's timer, elsewhere by another thread.

Python must come by: a call that is stuck in C code is ended only by `kvsim verify`, which runs it in a process apart.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvsim.errors import UsageError

SECONDS = 60.0  # a call may take so long, unless the caller says otherwise


class TooLongError(BaseException):
    """A call that did not return in time. No Exception: code that tries again after every error must not catch it."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def limited(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The function, each call of which raises TooLongError after so many seconds. UsageError: not above 0."""
    if not seconds > 0:
        raise UsageError("seconds= is above 0, got {seconds}", seconds=repr(seconds))

    def call(*args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        with time_limit(seconds):
            return function(*args, **keywords)

    call.__name__ = getattr(function, "__name__", type(function).__name__)
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TooLongError is raised inside after so many seconds."""
    main = threading.current_thread() is threading.main_thread()
    timed = main and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is not None  # None: C code's own
    with by_signal(seconds) if timed else by_thread(seconds):
        yield


@contextmanager
def by_signal(seconds: float) -> Iterator[None]:
    """By SIGALRM. A timer that somebody else has set goes on: it fires in our place if it is first, and else at its
    time, or as soon as we are through."""
    theirs, every = signal.getitimer(signal.ITIMER_REAL)
    if 0 < theirs <= seconds:
        yield
        return
    over = False

    def fire(number: int, frame: Any) -> None:
        if not over:
            raise TooLongError(seconds)

    started, handler = time.monotonic(), signal.signal(signal.SIGALRM, fire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        try:
            yield
        finally:
            over = True
    finally:  # also where the timer fires just when it is over
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if theirs:
            signal.setitimer(signal.ITIMER_REAL, max(theirs - (time.monotonic() - started), 1e-3), every)


@contextmanager
def by_thread(seconds: float) -> Iterator[None]:
    """By a thread that raises the error in this one, between two steps of Python."""
    ident, lock, over = threading.get_ident(), threading.Lock(), False

    def fire() -> None:
        with lock:
            if not over:
                raise_in(ident, TooLongError)

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
    except TooLongError:
        raise TooLongError(seconds) from None


def raise_in(thread: int, error: type[BaseException]) -> None:
    """Make another thread raise an error."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
