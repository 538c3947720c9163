"""What happens while a learner works: keys that are pressed, and files that are saved.

Saved files are seen by `watchfiles` (the extra `learn`); without it, only keys.
"""

import contextlib
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

WAIT = 0.2  # seconds for a key, then files are looked at
QUIT = "q"


class Event(NamedTuple):
    """A key, or the name of a file that was saved; the other is ""."""

    key: str = ""
    file: str = ""


def watch_events(folder: Path) -> Iterator[Event]:
    """Events in the order in which they come, to the end of stdin, which must be a terminal."""
    with read_keys() as keys, watch_files(folder) as files:
        while True:
            pressed = keys(WAIT)
            if pressed is None:
                return
            for key in pressed:
                yield Event(key=key)
            while not files.empty():
                yield Event(file=files.get())


@contextlib.contextmanager
def read_keys() -> Iterator[Callable[[float], str | None]]:
    """A function that waits for keys for so many seconds: those pressed, without Enter, or None at the end of stdin.
    Afterwards the terminal is as it was. Where there is no termios, keys come with Enter."""
    try:
        import termios
        import tty
    except ImportError:
        yield lambda seconds: sys.stdin.readline().strip()[:1] or None
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def wait(seconds: float) -> str | None:
        if not select.select([number], [], [], seconds)[0]:
            return ""
        return os.read(number, 16).decode("utf-8", "ignore") or None

    try:
        tty.setcbreak(number, termios.TCSADRAIN)  # what was typed before counts
        yield wait
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextlib.contextmanager
def watch_files(folder: Path) -> Iterator["queue.Queue[str]"]:
    """The names of files in the folder, as they are saved; none without watchfiles."""
    found: queue.Queue[str] = queue.Queue()
    watch = import_watch()
    if watch is None:
        yield found
        return
    stop = threading.Event()

    def look() -> None:
        for changes in watch(folder, stop_event=stop, recursive=False, raise_interrupt=False):
            for name in sorted({Path(path).name for _, path in changes}):
                found.put(name)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(2.0)


def import_watch() -> Any:
    """watchfiles.watch; None where it is not installed."""
    try:
        from watchfiles import watch
    except ImportError:
        return None
    return watch
