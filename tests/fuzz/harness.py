"""Runs the cases of one fuzz target in a process of its own, under limits.

A case is made from the name of its target and its number alone, so that any of them can be repeated by its number.
"""

import json
import mmap
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from kvsim.errors import KvsimError

CPU_SECONDS = 1.0  # of one case
SPACE = 200 * 2**20  # bytes of address space of one case, above what was there after the valid input
MESSAGE = 700  # characters
ONE_PROCESS = 1_000  # cases: what results keep in memory for later calls stays far below SPACE


class Target(NamedTuple):
    """A file in tests/fuzz/targets."""

    name: str
    valid: Callable[[Path], Any]
    make: Callable[[Random, Path], Any]
    use: Callable[[Any], object]


class Found(NamedTuple):
    """What came of some cases: how many ran, were answered, were refused (by template), and what else happened."""

    inputs: int
    answers: int
    refusals: dict[str, int]
    others: list[str]


class TooLongError(BaseException):
    """A case took more processor time than it may. No kind of Exception: none of kvsim's own handlers catches it."""


def find_target(name: str) -> Target:
    """The target of that name."""
    module = import_module(f"tests.fuzz.targets.{name}")
    return Target(name, module.valid, module.make, module.use)


def list_targets() -> list[str]:
    """The names of all targets."""
    return sorted(path.stem for path in Path(__file__).with_name("targets").glob("[!_]*.py"))


def _interrupt(signum: int, frame: object) -> None:
    raise TooLongError


def _limit(seconds: float) -> None:
    """Raise TooLongError after so much processor time of this process, whatever else the machine does; 0: never."""
    signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_space() -> None:
    """Let address space grow by SPACE at most. An allocation beyond it is a MemoryError, which is a finding."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPACE, hard))


def try_case(target: Target, number: int, folder: Path, seconds: float) -> tuple[str, str]:
    """("answer", ""), ("refusal", template of the message) or ("other", what happened) of one case."""
    given = target.make(Random(f"{target.name}/{number}"), folder)
    try:
        _limit(seconds)
        try:
            target.use(given)
        finally:
            _limit(0)
    except KvsimError as error:
        text = str(error)
        if len(text.splitlines()) != 1 or len(text) > MESSAGE:
            return "other", f"a message of {len(text)} characters and {len(text.splitlines())} lines: {text[:300]!r}"
        return "refusal", f"{type(error).__name__}: {error.template}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # another language's panic is one
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "other", f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error)[:200]!r}"
    return "answer", ""


def _run_here(target: Target, numbers: Iterable[int], seconds: float, progress: mmap.mmap) -> Found:
    answers, refusals, others, inputs = 0, Counter[str](), [], 0
    with tempfile.TemporaryDirectory() as folder:
        target.use(target.valid(Path(folder)))  # a target whose valid input is refused tests nothing
        _limit_space()
        for number in numbers:
            progress[:8] = number.to_bytes(8, "little")
            kind, text = try_case(target, number, Path(folder), seconds)
            inputs += 1
            answers += kind == "answer"
            refusals.update([text] if kind == "refusal" else [])
            others += [f"case {number}: {text}"] if kind == "other" else []
    return Found(inputs, answers, dict(refusals), others)


def _until(numbers: Iterable[int], minutes: float) -> Iterator[int]:
    """`numbers`, until `minutes` minutes have passed. 0: all of them."""
    end = time.monotonic() + 60 * minutes
    for number in numbers:
        if minutes and time.monotonic() > end:
            return
        yield number


def run_child(name: str, cases: int, minutes: float, first: int, progress: Path) -> None:
    """Run cases, for `minutes` at most if not 0, and print what was found as JSON."""
    numbers = _until(range(first, first + cases), minutes)
    with progress.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        found = _run_here(find_target(name), numbers, CPU_SECONDS if minutes else 10 * CPU_SECONDS, shared)
    sys.stdout.write(json.dumps(found._asdict()) + "\n")


def _run_process(name: str, cases: int, minutes: float, first: int) -> Found:
    with tempfile.NamedTemporaryFile() as progress:
        progress.write(bytes(8))
        progress.flush()
        command = [sys.executable, "-m", "tests.fuzz", "--child", name, "--cases", str(cases)]
        command += ["--minutes", str(minutes), "--first", str(first), "--progress", progress.name]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
        )
        number = int.from_bytes(Path(progress.name).read_bytes()[:8], "little")
    last = done.stdout.splitlines()[-1:]
    if done.returncode or not last:
        why = f"case {number}: the process ended with {done.returncode}: {done.stderr[-2000:]}"
        return Found(number - first + 1, 0, {}, [why])
    return Found(**json.loads(last[0]))


def _add(one: Found, other: Found) -> Found:
    refusals = Counter(one.refusals) + Counter(other.refusals)
    return Found(one.inputs + other.inputs, one.answers + other.answers, refusals, one.others + other.others)


def run(name: str, cases: int = 0, minutes: float = 0, first: int = 0) -> Found:
    """Run `cases` cases of a target, or for `minutes` minutes, in processes of their own. A process that fails or is
    ended by a signal is in `others` with the number of its case."""
    if not minutes:
        return _run_process(name, cases, 0, first)
    found, end = Found(0, 0, {}, []), time.monotonic() + 60 * minutes
    while (left := end - time.monotonic()) > 0:
        found = _add(found, _run_process(name, ONE_PROCESS, left / 60, first + found.inputs))
    return found
