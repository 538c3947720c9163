"""Processes that a child started, found by a mark in their environment: also those in sessions of their own."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

ROUNDS = 20  # a process may start another one while it is looked for
SHORTEST = 32  # characters of a mark: those of a random number


def _find(mark: bytes) -> Iterator[int]:
    """The numbers of all other processes whose environment holds `mark`."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if int(place.name) != os.getpid() and mark in (place / "environ").read_bytes():
                yield int(place.name)


def kill_marked(mark: str) -> None:
    """Kill every process that has inherited `mark` in its environment. Where there is no /proc: none is found.
    ValueError: a mark so short that processes of others may have it; an empty one is in every environment."""
    if len(mark) < SHORTEST:
        raise ValueError(f"a mark of {len(mark)} characters")
    for _ in range(ROUNDS):
        found = list(_find(mark.encode()))
        for number in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        if not found:
            return
