"""Runs a command line in this process and holds it to its promises."""

import contextlib
import io
import os
import sys
from pathlib import Path

from kvsim.cli import run
from kvsim.errors import KvsimError

CODES = (0, 1, 2, 3, 4)
_watched = []  # the folder outside of which nothing may be written, while a command runs
_written = []


class RefusedError(KvsimError):
    """A command line that ended with a message."""


def _watch(event, arguments):
    """Note files that are opened for writing outside the folder. A hook of `sys` stays for ever, so it is a switch."""
    if event != "open" or not _watched:
        return
    path, mode, flags = arguments
    writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or any(letter in (mode or "") for letter in "wax+")
    if writes and isinstance(path, str | bytes | os.PathLike):
        place = Path(os.path.realpath(os.fsdecode(path)))
        if not place.is_relative_to(_watched[-1]) and place.name != "null" and ".pyc" not in place.suffixes:
            _written.append(place)


def run_command(argv, folder):
    """Run `kvsim *argv` inside `folder`. RefusedError: its message. AssertionError: a code that is not in CODES, a
    refusal that does not end in one line, a file written elsewhere. Anything else that is raised is a traceback."""
    if _watch not in _hooks:
        sys.addaudithook(_watch)
        _hooks.append(_watch)
    out, err, here = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8"), Path.cwd()
    _written.clear()
    _watched.append(folder.resolve())
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(argv)
    finally:
        os.chdir(here)
        _watched.pop()
    assert _written == [], _written
    err.seek(0)
    lines = [line for line in err.read().splitlines() if "note:" not in line and "注意：" not in line]
    assert code in CODES, code
    if code >= 2:
        assert lines
        raise RefusedError(f"exit {code}: {{message}}", message="\n".join(lines))


_hooks = []
