"""The header of a safetensors file: where each tensor lies. https://github.com/huggingface/safetensors#format

Eight bytes give the size of a JSON object, which the tensors follow. The library that reads such files maps them;
here every count is held against the file's size, and the tensors themselves are left to `OpenFile.read_into`.
"""

import json
import math
from typing import Any, NamedTuple

from kvsim.errors import FileError, Words, plain, reason_of
from kvsim.files.reading import OpenFile

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip
MOST = 8 * 2**20  # bytes of a header: 60,000 tensors with long names; parsed, the worst of them takes 200 MB
_RANK = 32  # dimensions of an array in every NumPy


class Entry(NamedTuple):
    """One tensor: its dtype (a key of BITS), its shape, and its bytes [start, stop) from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """{name: entry} of all tensors in the order of the header, and the metadata."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _refuse(file: OpenFile, reason: object) -> FileError:
    return FileError(
        "cannot read {path} as safetensors: {reason} ({size} bytes; is it cut short? get it again)",
        path=file.path,
        reason=reason,
        size=file.size,
    )


def _refuse_tensor(file: OpenFile, key: str, reason: str) -> FileError:
    return FileError(
        "cannot read {path} as safetensors: the tensor {key}: {reason}", path=file.path, key=plain(key), reason=reason
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members. ValueError: two have one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(Words("two members have one name"))
    return found


def _read_object(file: OpenFile) -> tuple[dict[str, Any], int]:
    """The JSON object, and the byte at which the tensors begin."""
    if file.size < 8:
        raise _refuse(file, Words("it has no header"))
    size = int.from_bytes(file.read(0, 8), "little")
    if size > file.size - 8:
        raise _refuse(file, Words("its header is longer than the file"))
    if size > MOST:
        raise _refuse(file, Words("its header has more than {count} bytes", count=MOST))
    text = file.read(8, size)
    if not text.startswith(b"{"):
        raise _refuse(file, Words("its header is not a JSON object"))
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_unique), 8 + size
    except ValueError as error:
        raise _refuse(file, reason_of(error)) from error
    except RecursionError as error:
        raise _refuse(file, Words("it is nested too deeply")) from error


def _read_entry(file: OpenFile, key: str, given: Any, base: int) -> Entry:
    """One tensor. FileError: it lacks a field, is of an unknown dtype, or has more or fewer bytes than its shape."""
    if not isinstance(given, dict) or given.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refuse_tensor(file, key, Words("expected dtype, shape and data_offsets"))
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _refuse_tensor(file, key, Words("unknown dtype"))
    if not isinstance(shape, list) or len(shape) > _RANK or not all(map(_is_whole, shape)):
        raise _refuse_tensor(file, key, Words("its shape is not a list of at most 32 whole numbers"))
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_whole, offsets)):
        raise _refuse_tensor(file, key, Words("its data_offsets are not two whole numbers"))
    if 8 * (offsets[1] - offsets[0]) != math.prod(shape) * BITS[dtype]:
        raise _refuse_tensor(file, key, Words("its data_offsets do not fit its shape and dtype"))
    return Entry(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def read_header(file: OpenFile) -> Header:
    """The header of an open file. FileError: it is not sound: a tensor outside the file, tensors that overlap, gaps,
    sizes that contradict shapes, two tensors of one name."""
    found, base = _read_object(file)
    metadata = found.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refuse(file, Words("its metadata are not texts"))
    tensors = {key: _read_entry(file, key, given, base) for key, given in found.items()}
    end = base
    for key, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.start != end:
            raise _refuse_tensor(file, key, Words("its bytes do not follow those of the tensor before it"))
        end = entry.stop
    if end != file.size:
        raise _refuse(file, Words("its tensors end elsewhere than the file"))
    return Header(tensors, metadata)
