"""The header of a GGUF file: its metadata, and where each tensor lies.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The `gguf` package's own reader maps the file and believes its counts. Here every count is held against the bytes that
are left before anything is made for it, and lists are decoded only when they are asked for.
"""

import math
import struct
from typing import Any, NamedTuple

from kvsim.errors import FileError, Words, plain
from kvsim.files.reading import OpenFile
from kvsim.loading.checkpoint import Block

_MOST = 32 * 2**20  # bytes of a header; those of the largest vocabularies have about 16 MB
_MOST_ENTRIES = 2**20  # of a list; the longest in use has 450,000
_PIECE = 2**20  # bytes read at a time
_RANK = 4  # dimensions of a tensor, as in ggml

UINT32, STRING, ARRAY = 4, 8, 9  # numbers of some types of metadata
# Number of the type -> its struct format. 7 is a boolean.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", UINT32: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FEWEST = {kind: struct.calcsize(form) for kind, form in _SCALARS.items()} | {STRING: 8}  # bytes of one entry

Value = str | int | float | bool | list[str] | list[int] | list[float] | list[bool]


class Unsound(Exception):  # noqa: N818 (an error of this file alone, always turned into a FileError)
    """The reason why a header is refused."""


class Entry(NamedTuple):
    """One tensor: its shape, the rows outermost; the number of its type; its bytes [start, stop) in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int
    stop: int


class List(NamedTuple):
    """A list in the metadata, still encoded: the type of its entries, their number, the byte at which they begin."""

    kind: int
    length: int
    start: int


class Cursor:
    """Reads a header from its beginning on, in pieces, and never past its limit."""

    def __init__(self, file: OpenFile) -> None:
        self.data, self.at = bytearray(), 0
        self._file = file

    def need(self, count: int) -> None:
        """Have the next `count` bytes in `data`. Unsound: the file does not have them."""
        end = self.at + count
        if end <= len(self.data):
            return
        if end > self._file.size:
            raise Unsound(Words("it ends within its header"))
        if end > _MOST:
            raise Unsound(Words("its header has more than 32 MiB"))
        held = len(self.data)
        piece = bytearray(min(max(end - held, _PIECE), min(_MOST, self._file.size) - held))
        self._file.read_into(held, piece)
        self.data += piece

    def number(self, form: str) -> Any:
        """The next number, of a struct format."""
        size = struct.calcsize(f"<{form}")
        self.need(size)
        self.at += size
        return struct.unpack_from(f"<{form}", self.data, self.at - size)[0]

    def text(self) -> bytes:
        """The next string, its encoding unchecked."""
        size = self.number("Q")
        self.need(size)
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def skip_texts(self, count: int) -> None:
        """Skip the next `count` strings. Written for speed: there are half a million of them in a real file."""
        data, at, held, size_at = self.data, self.at, len(self.data), struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > held:
                self.at = at
                self.need(8)
                held = len(data)
            at += 8 + size_at(data, at)[0]
        self.at = at
        self.need(0)

    def name(self) -> str:
        """The next string. Unsound: it is not valid UTF-8."""
        return decode(self.text())

    def count(self, what: str, fewest: int, most: int) -> int:
        """The next number of 64 bits, a count of things of at least `fewest` bytes each, which follow. Unsound: more
        than the file can hold, or than `most`."""
        count = int(self.number("Q"))
        if count > most or count * fewest > self._file.size - self.at:
            raise Unsound(what)
        return count


def decode(raw: bytes | bytearray) -> str:
    """The text of a string. Unsound: it is not valid UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unsound(Words("a text in it is not valid UTF-8")) from error


def _read_list(cursor: Cursor) -> List:
    """The next list; nested ones are not read, as in ggml."""
    kind = cursor.number("I")
    if kind not in _FEWEST:
        raise Unsound(Words("a list in its metadata is of an unknown type"))
    count = cursor.count(Words("it lists more entries than it can hold"), _FEWEST[kind], _MOST_ENTRIES)
    start = cursor.at
    if kind == STRING:
        cursor.skip_texts(count)
    else:
        cursor.need(count * _FEWEST[kind])
        cursor.at += count * _FEWEST[kind]
    return List(kind, count, start)


def read_metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    """The next `count` fields: numbers and booleans; strings as bytes; lists as `List`."""
    found: dict[str, Any] = {}
    for _ in range(count):
        key, kind = cursor.name(), cursor.number("I")
        if key in found:
            raise Unsound(Words("two fields of its metadata have one name"))
        if kind == ARRAY:
            found[key] = _read_list(cursor)
        elif kind == STRING:
            found[key] = cursor.text()
        elif kind in _SCALARS:
            found[key] = cursor.number(_SCALARS[kind])
        else:
            raise Unsound(Words("a field of its metadata is of an unknown type"))
        if key == "general.alignment" and kind != UINT32:
            raise Unsound(Words("its alignment is not a power of two"))
    return found


def decode_value(data: bytearray, value: Any) -> Value:
    """A field of the metadata as Python has it. Unsound: a text is not valid UTF-8."""
    if isinstance(value, bytes):
        return decode(value)
    if not isinstance(value, List):
        return value  # type: ignore[no-any-return]
    if value.kind != STRING:
        return list(struct.unpack_from(f"<{value.length}{_SCALARS[value.kind]}", data, value.start))
    texts, at, size_at = [], value.start, struct.Struct("<Q").unpack_from
    for _ in range(value.length):
        start = at + 8
        at = start + size_at(data, at)[0]
        texts.append(decode(data[start:at]))
    return texts


def read_entries(cursor: Cursor, count: int, blocks: dict[int, Block]) -> dict[str, Entry]:
    """The next `count` tensors, with offsets from the beginning of the data. `blocks`: those of
    every known type."""
    found: dict[str, Entry] = {}
    for _ in range(count):
        name, rank = cursor.name(), cursor.number("I")
        if rank > _RANK:
            raise Unsound(Words("a tensor has more than 4 dimensions"))
        shape = tuple(reversed([int(cursor.number("Q")) for _ in range(rank)]))
        kind, offset = cursor.number("I"), cursor.number("Q")
        if kind not in blocks:
            raise Unsound(Words("a tensor is of an unknown type"))
        block = blocks[kind]
        if (shape[-1] if shape else 1) % block.numbers:
            raise Unsound(Words("a row of a tensor is not a whole number of blocks"))
        if name in found:
            raise Unsound(Words("two tensors have one name"))
        found[name] = Entry(shape, kind, offset, offset + math.prod(shape) // block.numbers * block.size)
    return found


def place(entries: dict[str, Entry], base: int, alignment: int, size: int) -> dict[str, Entry]:
    """The tensors with offsets from the beginning of a file of `size` bytes. Unsound: one lies outside it, or two
    overlap."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: entry[2:]):
        if entry.start % alignment:
            raise Unsound(Words("a tensor does not lie at a multiple of its alignment"))
        if entry.start < end:
            raise Unsound(Words("two tensors overlap"))
        end = entry.stop
    if end and base + end > size:
        raise Unsound(Words("it ends within its tensors"))
    return {name: Entry(e.shape, e.kind, base + e.start, base + e.stop) for name, e in entries.items()}


class Header:
    """The metadata and tensors of an open GGUF file.

    FileError: it is no GGUF file, of another byte order or version, truncated, or holds a count, type or offset that
    it cannot have.
    """

    def __init__(self, file: OpenFile, blocks: dict[int, Block]) -> None:
        self.path = file.path
        try:
            self._read(file, blocks)
        except Unsound as error:
            raise self._refuse(error) from error

    def _refuse(self, reason: Unsound) -> FileError:
        return FileError(
            "cannot read {path} as GGUF: {reason} (is it cut short? get it again)",
            path=self.path,
            reason=reason.args[0],
        )

    def _read(self, file: OpenFile, blocks: dict[int, Block]) -> None:
        cursor = Cursor(file)
        if cursor.number("I") != int.from_bytes(b"GGUF", "little"):
            raise Unsound(Words("it does not begin with GGUF"))
        if cursor.number("I") not in (2, 3):
            raise Unsound(Words("its version is not 2 or 3, or its byte order is not little-endian"))
        # The fewest bytes of a tensor are an empty name, no dimension, type and offset; of a field: name, type, value.
        n_tensors = cursor.count(Words("it counts more tensors than it can hold"), 24, 2**17)
        n_fields = cursor.count(Words("it counts more fields of metadata than it can hold"), 13, 2**17)
        self.fields = read_metadata(cursor, n_fields)
        entries = read_entries(cursor, n_tensors, blocks)
        alignment = self.fields.get("general.alignment", 32)
        if alignment <= 0 or alignment & (alignment - 1):
            raise Unsound(Words("its alignment is not a power of two"))
        base = -(-cursor.at // alignment) * alignment
        self.tensors = place(entries, base, alignment, file.size)
        self._data = cursor.data

    def read(self, key: str) -> Value | None:
        """The value of a field of the metadata; None if there is none. FileError: it is not valid UTF-8."""
        value = self.fields.get(key)
        try:
            return None if value is None else decode_value(self._data, value)
        except Unsound as error:
            raise FileError(
                "{path}: {key} is {value}, expected {expected}",
                path=self.path, key=plain(key), value=Words("another encoding"), expected="UTF-8",
            ) from error  # fmt: skip

    def length(self, key: str) -> int:
        """The number of entries of a list of the metadata; 0 if the field is none."""
        value = self.fields.get(key)
        return value.length if isinstance(value, List) else 0

    def forget_lists(self) -> None:
        """Free the lists of the metadata."""
        self.fields = {key: value for key, value in self.fields.items() if not isinstance(value, List)}
        self._data = bytearray()
