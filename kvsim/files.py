"""Files written whole or not at all."""

import os
from pathlib import Path

from kvsim.errors import FileError


def write_beside(path: Path, data: bytes) -> None:
    """The whole file or none: written beside its target, then renamed; what is no plain file (a pipe, a device) is
    written to as it is. FileError: it cannot be written."""
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
