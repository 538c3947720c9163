"""`python -m tests.fuzz.kills [--moments N] [WRITER ...]`: kill -9 of everything that writes a file.

Each writer replaces a file N times in a process of its own that is killed: at N lines of kvsim's own code that writes,
evenly chosen among all that run, and N times after some milliseconds, while it writes again and again. Afterwards the
file must be the old one or the new one, whole, and the next write must succeed whatever the dead left behind.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from kvsim.benchmark import decoding
from kvsim.cli import run
from kvsim.testing.oracle import Oracle
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure
from tests.models import demo

Write = Callable[[Path, int], object]
# A writer is killed at lines of these files.
CODE = ("/kvsim/files/writing.py", "/kvsim/files/safetensors_arrays.py", "/kvsim/caches/cache_file.py")
LONGEST = 0.05  # seconds until a writer in a loop is killed


def _command(*argv: str) -> Write:
    """A writer that runs a command whose last arguments are an option and the path of its file."""

    def write(path: Path, which: int) -> None:
        given = [word.replace("N", str(9 + which)) for word in argv]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert run([*given, str(path)]) == 0

    return write


@cache
def cache_of(tokens: int) -> Any:
    """A cache of the demo model."""
    held = demo().new_cache()
    demo()([5 + i % 90 for i in range(tokens)], held, logits="last")
    return held


def write_cache(path: Path, which: int) -> None:
    """Files of 0.4 and 0.3 MB."""
    demo().save_cache(cache_of(800 - 200 * which), path)


def write_report(path: Path, which: int) -> None:
    """A failed check of the oracle."""
    error = OracleError(Failure(numbers={"numbers": [which] * 9999}))
    Oracle(report=path.parent, name=path.stem)._write(error)


WRITERS: dict[str, Write] = {
    "cache": write_cache,
    "sweep": _command("plan", "gpt2", "--sweep", "--device", "a10", "--context", "N,100", "--csv"),
    "picture": _command("trace", "N", "-n", "1", "--svg"),
    "report": write_report,
}


def trace_lines(stop: int) -> tuple[Any, list[int]]:
    """A trace function that kills this process at that line of CODE, counted from 1; and the number of lines so far."""
    seen = [0]

    def trace(frame: Any, event: str, _: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in CODE):
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == stop:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace, seen


def in_child(work: Callable[[], None], seconds: float | None) -> int:
    """Runs `work` in a child, killed after `seconds` if it is not by then. Its status."""
    if (child := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def kill(name: str, moments: int, folder: Path) -> Counter[str]:
    """Kills a writer; counts what was found."""
    write, path, found = WRITERS[name], folder / "file.json", Counter[str]()
    known = []
    for which in (1, 0):
        write(path, which)
        known.append(path.read_bytes())
    old = known[1]

    def traced(stop: int) -> int:
        trace, seen = trace_lines(stop)
        sys.settrace(trace)
        try:
            write(path, 1)
        finally:
            sys.settrace(None)
        return seen[0]

    lines = traced(0)
    for moment in range(moments):
        path.write_bytes(old)
        status = in_child(lambda: (traced(1 + moment * lines // moments), None)[1], None)  # noqa: B023
        assert status == signal.SIGKILL
        data = path.read_bytes()
        found["torn"] += data not in known
        found["old" if data == old else "new"] += 1
    for moment in range(moments):
        delay = Random(f"{name}/{moment}").uniform(0, LONGEST)
        in_child(lambda: [write(path, i % 2) for i in count()] and None, delay)
        found["torn"] += path.read_bytes() not in known
        found["in a loop"] += 1
    found["left behind"] = sum(file.name.startswith(".kvsim-") for file in folder.iterdir())
    assert {file.name[:7] for file in folder.iterdir()} <= {"file.js", ".kvsim-"}
    write(path, 1)
    found["torn"] += path.read_bytes() != known[0]
    return found


def main() -> int:
    """Exit 1 if a file was torn."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kills")
    parser.add_argument("writers", nargs="*", default=[], metavar="WRITER", help=", ".join(WRITERS))
    parser.add_argument("--moments", type=int, default=200)
    asked = parser.parse_args()
    torn = 0
    decoding.measure_limits = lambda *_: (1e10, 1e10)  # which take a second, whatever is written afterwards
    for name in asked.writers or WRITERS:
        with TemporaryDirectory() as folder:
            found = kill(name, asked.moments, Path(folder))
        torn += found["torn"]
        print(f"{name}: killed at {found['old'] + found['new']} lines: {found['old']} old, {found['new']} new; and"
              f" {found['in a loop']} times in a loop; {found['torn']} torn; {found['left behind']} temporary files"
              " left, which the next write ignored", flush=True)  # fmt: skip
    return 1 if torn else 0


if __name__ == "__main__":
    sys.exit(main())
