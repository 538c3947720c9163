"""Reading of files whose content is not trusted: bytes are read, never mapped, and a file that changes meanwhile is
refused."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.errors import FileError

_PIECE = 2**30  # bytes read by one system call: Linux reads less than 2 GiB at a time


class Stamp(NamedTuple):
    """What differs between a file and the same file after it was written to, or another one in its place."""

    size: int
    mtime_ns: int
    inode: int
    device: int


class OpenFile:
    """A regular file that is open for reading. `size` is in bytes."""

    def __init__(self, path: Path, raw: FileIO) -> None:
        self.path, self._raw = path, raw
        self.stamp = self._look()
        self.size = self.stamp.size

    def _look(self) -> Stamp:
        found = os.fstat(self._raw.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError
        return Stamp(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)

    def read(self, start: int, count: int) -> bytes:
        """The `count` bytes from byte `start` on. FileError: the file has been made shorter."""
        left, pieces = self._within(start, count), []
        self._raw.seek(start)
        while left:
            piece = self._raw.read(min(left, _PIECE))
            if not piece:
                raise self._changed()
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)  # of one system call: without a second copy

    def read_into(self, start: int, array: Any) -> None:
        """Fill `array` (any contiguous, writable buffer) with the bytes from byte `start` on. FileError: the file has
        been made shorter."""
        whole = memoryview(array)
        if not self._within(start, whole.nbytes):  # a view with a zero in its shape cannot be cast
            return
        left = whole.cast("B")
        self._raw.seek(start)
        while left:
            count = self._raw.readinto(left[:_PIECE])
            if not count:
                raise self._changed()
            left = left[count:]

    def _within(self, start: int, count: int) -> int:
        """`count`. ValueError: these bytes are not all in the file, which its reader should have checked."""
        if not 0 <= start <= start + count <= self.size:
            raise ValueError(f"bytes {start} to {start + count} of {self.size}")
        return count

    def check_unchanged(self, since: Stamp | None = None) -> None:
        """FileError: the file was written to since it was opened, or since `since`."""
        if self._look() != (since or self.stamp):
            raise self._changed()

    def _changed(self) -> FileError:
        return FileError("{path} changed while it was read: try again when nothing writes to it", path=self.path)


def _missing(path: Path) -> FileError:
    return FileError("cannot read {path}: there is no such file", path=path)


def _failed(path: Path, error: OSError | ValueError) -> FileError:
    reason = getattr(error, "strerror", None) or error
    return FileError("cannot read {path}: {reason}", path=path, reason=reason)


def _check_regular(path: Path) -> None:
    """FileError: absent or not a regular file. Looked at first, since some devices do things when they are opened."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except (OSError, ValueError) as error:  # no permission, a loop of links, a NUL byte
        raise _failed(path, error) from error
    if not regular:
        raise _missing(path)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe put in its place would wait for a writer


@contextmanager
def open_file(path: Path, since: Stamp | None = None) -> Iterator[OpenFile]:
    """Opens a regular file, and checks at the end that nothing wrote to it in the meantime.

    `since`: the stamp of an earlier opening, after which nothing may have changed either. What was read inside the
    `with` may be used only after it. FileError: absent, not a regular file (a pipe or a device might never end),
    unreadable, changed.
    """
    _check_regular(path)
    try:
        with FileIO(path, opener=_open) as raw:
            file = OpenFile(path, raw)
            file.check_unchanged(since)
            yield file
            file.check_unchanged()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise _failed(path, error) from error
