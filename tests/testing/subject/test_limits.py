"""Time limits: a call that does not return is interrupted, in any thread; a timer set before is preserved."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from kvsim.errors import UsageError
from kvsim.testing.subject.limits import TimeLimitError, limit_by_thread, limited, time_limit

has_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a timer of the system")


def endless():
    while True:
        pass


@pytest.fixture
def alarm():
    """A handler of somebody else's, and what it got."""
    got = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
    yield got
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_what_returns_is_not_disturbed():
    def add(a, b=1):
        return a + b

    assert limited(add, 10.0)(2, b=3) == 5
    assert limited(add, 10.0).__name__ == "add"
    with pytest.raises(ZeroDivisionError):
        limited(lambda: 1 / 0, 10.0)()
    with pytest.raises(UsageError, match="seconds= is above 0, got 0"):
        limited(add, 0)


def test_what_does_not_is_ended():
    started = time.monotonic()
    with pytest.raises(TimeLimitError) as caught:
        limited(endless, 0.2)()
    assert caught.value.seconds == 0.2
    assert time.monotonic() - started > 0.19  # and not at once; how late depends on the machine


def test_an_except_exception_does_not_stop_it():
    def stubborn():
        while True:
            try:
                endless()
            except Exception:
                continue

    with pytest.raises(TimeLimitError):
        limited(stubborn, 0.2)()


def test_by_a_thread():
    with pytest.raises(TimeLimitError) as caught, limit_by_thread(0.2):
        endless()
    assert caught.value.seconds == 0.2
    with limit_by_thread(600.0):
        (timer,) = (t for t in threading.enumerate() if isinstance(t, threading.Timer) and t.interval == 600.0)
    timer.join(300.0)
    assert not timer.is_alive()  # nothing comes after


def test_in_a_thread():
    ended = []

    def work():
        try:
            limited(endless, 0.2)()
        except TimeLimitError:
            ended.append("in time")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(300)
    assert ended == ["in time"]


@has_timer
def test_a_handler_that_was_there_is_put_back(alarm):
    handler = signal.getsignal(signal.SIGALRM)
    for function, error in ((lambda: None, None), (endless, TimeLimitError)):
        if error is None:
            limited(function, 300.0)()
        else:
            with pytest.raises(error):
                limited(function, 0.1)()
        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert alarm == []


def wait_for(alarm):
    """Until it has rung; a minute at most."""
    until = time.monotonic() + 60
    while not alarm and time.monotonic() < until:
        time.sleep(0.01)


@has_timer
@pytest.mark.parametrize("ends", ["by itself", "by force"])
def test_a_timer_that_was_there_goes_on(alarm, ends):
    """What is left is at most what is left of the clock: an hour less what was spent inside."""
    before = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 3600.0, 7.0)
    if ends == "by itself":
        limited(time.sleep, 300.0)(0.05)
    else:
        with pytest.raises(TimeLimitError):
            limited(endless, 0.1)()
    left, every = signal.getitimer(signal.ITIMER_REAL)
    assert every == 7.0
    assert 3600.0 - (time.monotonic() - before) - 0.01 <= left <= 3600.0 - 0.05 + 0.01
    assert alarm == []


@has_timer
def test_a_timer_that_is_due_first_fires_first(alarm):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    limited(wait_for, 300.0)(alarm)
    assert alarm == [signal.SIGALRM]
    assert signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL


@has_timer
def test_a_timer_that_came_due_meanwhile_fires_after(alarm):
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with time_limit(0.2), pytest.raises(TimeLimitError):
        endless()
    wait_for(alarm)
    assert alarm == [signal.SIGALRM]


@has_timer
def test_limits_nest():
    with time_limit(3600.0):
        with pytest.raises(TimeLimitError) as caught:
            limited(endless, 0.2)()
        assert caught.value.seconds == 0.2
        assert 1800 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3600 - 0.19


@has_timer
def test_a_thousand_calls_start_no_thread(monkeypatch):
    """In the main thread each costs two calls of the system's timer."""
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread was started"))
    calls, step = [], limited(lambda: calls.append(1), 300.0)
    for _ in range(1000):
        step()
    assert len(calls) == 1000


def test_without_the_systems_timer():
    """As where there is none: the assertions go by the thread."""
    script = (
        "import signal; del signal.setitimer, signal.getitimer\n"
        "from kvsim import testing\n"
        "def attention(q, k, v):\n    while True: pass\n"
        "try: testing.assert_attention(attention, seconds=0.3)\n"
        "except testing.OracleError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert "0.3" in done.stdout
