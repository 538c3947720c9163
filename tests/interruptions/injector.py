"""Raise an exception before a line of kvsim, counted from the first that a function executes."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kvsim

PACKAGE = str(Path(kvsim.__file__).parent)


class InjectedError(Exception):
    """Any exception but KeyboardInterrupt."""


class Injector:
    """Counts the lines of the package that run, or with `opcodes` its bytecode instructions, and raises `error` before
    the one with the number `at` (None: never)."""

    def __init__(self, at: int | None = None, error: type[BaseException] = KeyboardInterrupt, opcodes: bool = False):
        self.at, self.error = at, error
        self.passed = 0
        self.place = ""  # the file and line at which it was raised
        self._event = "opcode" if opcodes else "line"

    def _trace(self, frame: Any, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if self._event == "opcode":
            frame.f_trace_opcodes = True
        if event == self._event:
            if self.passed == self.at:
                sys.settrace(None)
                self.place = f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"
                raise self.error
            self.passed += 1
        return self._trace

    def run(self, work: Callable[[], Any]) -> bool:
        """Whether the exception was raised in `work()`. Python ignores one that is raised in `__del__`."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            work()
        except self.error:
            if not self.place:
                raise
        finally:
            sys.settrace(before)
        return bool(self.place)


def count_lines(work: Callable[[], Any], *, opcodes: bool = False) -> int:
    """The number of lines (or instructions) of the package that `work()` runs."""
    injector = Injector(opcodes=opcodes)
    injector.run(work)
    return injector.passed
