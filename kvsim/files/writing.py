"""Atomic writing of files: afterwards the target is the old file or the new one, whole, whatever happens meanwhile."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from kvsim.errors import FileError, UsageError
from kvsim.text import one_line

Write = Callable[[BinaryIO], object]


def write_with(path: Path, write: Write) -> None:
    """Replaces the file at `path` by what `write(file)` writes. The file's mode is kept; of a link, the file that it
    points to is replaced. A pipe or a device is written directly.

    FileError: it cannot be written; a file that was there is unchanged, as it is if `write` raises or Ctrl-C comes. A
    process that is killed may leave a file .kvsim-* beside the target, which no later run reads or needs.
    """
    with _reported(path):
        target, found = _find(path)
        if target is None:
            with open(path, "wb", opener=_open_special) as file:
                write(file)
        else:
            _replace(target, found, write)


def write_beside(path: Path, data: bytes) -> None:
    """As `write_with`, for bytes in memory."""
    write_with(path, lambda file: file.write(data))


def check_writable(path: Path) -> None:
    """FileError: `path` cannot be written now. Called before long work; leaves nothing behind."""
    with _reported(path):
        target, found = _find(path)
        if target is not None:
            _replace(target, found, None)


def check_apart(*paths: Path | None) -> None:
    """UsageError: two of `paths` are one file, which the second would replace. Pipes and devices take several; None is
    no file. FileError: as `check_writable`."""
    targets: set[str] = set()
    for path in paths:
        if path is None:
            continue
        with _reported(path):
            target, _ = _find(path)
        if target in targets:
            raise UsageError("two outputs would go to {path}: name another file for one", path=one_line(str(path)))
        if target is not None:
            targets.add(target)


def is_special(path: Path) -> bool:
    """Is `path` a pipe, a device or a stream of this process, beside which no file can be made? FileError: as
    `check_writable`."""
    with _reported(path):
        return _find(path)[0] is None


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turns what the system says about `path` into a FileError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError("cannot write {path}: {error}", path=one_line(str(path)), error=reason) from error


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _find(path: Path) -> tuple[str | None, os.stat_result | None]:
    """The regular file that `path` is or links to, and its facts (None: there is none yet). (None, None): a pipe, a
    device or a stream. OSError, FileError: nothing can be written there."""
    if (stream := _stream_number(path)) is not None:
        os.fstat(stream)
        return None, None
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None  # or a link to a file that is not there yet
    except ValueError as error:  # NUL, or a character that no name can have
        raise OSError(errno.EINVAL, str(error)) from error
    target = os.path.realpath(path)
    if found is None:
        folder, name = os.path.split(target)
        if not os.path.isdir(folder):
            raise FileError("there is no folder {folder} for {file}", folder=one_line(folder), file=one_line(name))
        return target, None
    if stat.S_ISDIR(found.st_mode):
        raise _error(errno.EISDIR)
    if not os.access(path, os.W_OK):  # a rename would replace even a read-only file
        raise _error(errno.EACCES)
    return (target, found) if stat.S_ISREG(found.st_mode) else (None, None)


def _stream_number(path: Path) -> int | None:
    """The descriptor that /dev/stdout and its like stand for; None for other paths. What lies behind it may be a file
    that others append to, so it is neither replaced nor opened again."""
    found = re.fullmatch("/dev/std(out|err)|/(?:dev|proc/self)/fd/([0-9]{1,6})", str(path))
    if found is None:
        return None
    return int(found[2]) if found[2] else {"out": 1, "err": 2}[found[1]]


def _open_special(path: str, _: int) -> int:
    """A descriptor of a pipe, a device or a stream, which is not created and not emptied."""
    stream = _stream_number(Path(path))
    return os.open(path, os.O_WRONLY) if stream is None else os.dup(stream)


def _replace(target: str, old: os.stat_result | None, write: Write | None) -> None:
    """Writes a file beside `target` under a name that nobody can guess, flushes it to disk and renames it. Without
    `write`, only makes and removes it."""
    folder = os.path.dirname(target)
    beside = os.path.join(folder, f".kvsim-{os.urandom(8).hex()}")
    mode = 0o666 if old is None else 0o600  # that of a new file follows the umask; else at no time wider than the old

    def open_new(path: str, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), mode)

    try:
        with open(beside, "xb", opener=open_new) as file:
            if write is not None:
                write(file)
                file.flush()
                if old is not None:
                    os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
                os.fsync(file.fileno())
        if write is not None:
            os.replace(beside, target)
            _flush_folder(folder)
        else:
            os.unlink(beside)
    except BaseException as error:
        if not (isinstance(error, FileExistsError) and error.filename == beside):  # that one is somebody else's
            with contextlib.suppress(OSError):
                os.unlink(beside)
        raise


def _flush_folder(folder: str) -> None:
    """Flushes the rename itself to disk. Where the system cannot do that, the file is whole all the same."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
