"""Atomic writing of files."""

import os
from pathlib import Path

from kvsim.errors import FileError


def write_beside(path: Path, data: bytes) -> None:
    """Write a file beside its target and rename it, so that the target is never half-written. A target that is not a
    regular file (a pipe, a device) is written directly. FileError: it cannot be written."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise FileError("cannot write {path}: {error}", path=path, error=error.strerror or error) from error
