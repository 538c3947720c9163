"""Bytes and text from untrusted files."""

import sys
from pathlib import Path
from typing import BinaryIO

from kvsim.errors import FileError
from kvsim.files.reading import open_file

_TEXT = 64 * 2**20  # bytes: more than any context holds
_PIECE = 2**20  # bytes


def _read_pieces(file: BinaryIO, most: int) -> bytes:
    """Everything there is, or its first `most` bytes. `file.read(most)` would allocate `most` bytes before it reads."""
    pieces, left = [], most
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def read_bytes(path: Path, limit: int) -> bytes:
    """A regular file's bytes. FileError: absent, more than `limit`, changed while it was read."""
    with open_file(path) as file:
        _check_size(file.size, path, limit)
        raw = file.read(0, file.size)
    return raw


def _check_size(size: int, path: Path | str, limit: int) -> None:
    if size > limit:
        raise FileError("{path} has more than the {limit} bytes allowed", path=path, limit=limit)


def read_text(name: str) -> str:
    """The text in a file, or of stdin for "-", without its last line end. FileError: absent, too large,
    not UTF-8."""
    if name != "-":
        raw = read_bytes(Path(name), _TEXT)
    elif sys.stdin is None:
        raise FileError("cannot read {path}: there is no such file", path="stdin")
    else:
        raw = _read_pieces(sys.stdin.buffer, _TEXT + 1)
        _check_size(len(raw), "stdin", _TEXT)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError("{path} is not valid UTF-8: {reason}", path=name, reason=error) from error
    return text.removesuffix("\n").removesuffix("\r")
