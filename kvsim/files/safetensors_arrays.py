"""NumPy arrays in safetensors files, written and read one after another, so that they need not be in memory together.

https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from kvsim.errors import Words, plain
from kvsim.files.reading import OpenFile
from kvsim.files.safetensors_header import MOST, Entry

DTYPES = {"float64": "F64", "int64": "I64", "float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8"}


def _differing(name: str, dtype: Any, shape: Any, wanted: str, wanted_shape: Any) -> Words:
    return Words("{name} is {dtype} {shape}, not {wanted} {wanted_shape}", name=plain(name), dtype=dtype,
                 shape=list(shape), wanted=wanted, wanted_shape=list(wanted_shape))  # fmt: skip


class Layout(NamedTuple):
    """The dtype (NumPy's name, a key of DTYPES) and the shape of an array."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def check(self, name: str, entry: Entry) -> None:
        """ValueError: the entry `name` of a file has another dtype or shape."""
        dtype = DTYPES[self.dtype]
        if (entry.dtype, entry.shape) != (dtype, self.shape):
            raise ValueError(_differing(name, entry.dtype, entry.shape, dtype, self.shape))


class Tensor(NamedTuple):
    """An array to write. `read` returns it; it is called when its turn comes."""

    name: str
    layout: Layout
    read: Callable[[], Any]


def check_finite(name: str, array: Any) -> None:
    """ValueError: a number is infinite or NaN."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(Words("{name} has numbers that are not finite", name=plain(name)))


def _make_header(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> bytes:
    """The header, padded so that the tensors begin at a multiple of 8. ValueError: more than `read_header` accepts."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, layout, _ in tensors:
        start, end = end, end + layout.size
        header[name] = {"dtype": DTYPES[layout.dtype], "shape": list(layout.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST:
        raise ValueError(Words("its header has more than {count} bytes", count=MOST))
    return len(text).to_bytes(8, "little") + text


def write_arrays(file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, the arrays with the largest numbers first, so that each is aligned. ValueError: an
    array is not what its layout says, or not finite."""
    ordered = sorted(tensors, key=lambda tensor: np.dtype(tensor.layout.dtype).itemsize, reverse=True)
    file.write(_make_header(ordered, metadata))
    for name, layout, read in ordered:
        array: Any = np.ascontiguousarray(read())
        if (array.dtype.name, array.shape) != layout:
            raise ValueError(_differing(name, array.dtype, array.shape, *layout))
        check_finite(name, array)
        file.write(memoryview(array.reshape(-1).view(np.uint8)))


def read_array(file: OpenFile, name: str, entry: Entry, layout: Layout) -> Any:
    """The array of an entry that has passed `layout.check`. ValueError: it is not finite."""
    array = np.empty(layout.shape, layout.dtype)
    file.read_into(entry.start, array)
    check_finite(name, array)
    return array
