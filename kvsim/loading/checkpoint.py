"""Tensors of a checkpoint's safetensors files, read one at a time."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from kvsim.errors import FileError, Words, plain
from kvsim.files.reading import OpenFile, open_file
from kvsim.files.safetensors_header import read_header
from kvsim.loading.json_file import read_json
from kvsim.loading.sources import Source
from kvsim.loading.text_file import read_bytes

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 as its bits
_PIECE = 2**16  # numbers decoded at a time: bounds the extra memory, and stays in a processor's cache
_INDEX = 9 * 2**20  # bytes of an index: 90,000 tensors; parsed, the worst of them takes 200 MB
_NESTED = 1000  # brackets and braces in an index, which has two; each would take 20 times its bytes


def from_bfloat16(bits: Any) -> Any:
    """float32 numbers from the 16 bits of bfloat16: exactly the same numbers."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Block(NamedTuple):
    """A unit of decoding: `size` bytes encode `numbers` numbers."""

    size: int
    numbers: int


def fill_decoded(file: OpenFile, start: int, block: Block, decode: Callable[[Any], Any], array_N: Any) -> None:
    """Fill `array_N` with the numbers that `decode` makes of the bytes from byte `start` of a file on, a few blocks at
    a time, so that no second copy of a whole tensor exists."""
    n_blocks = array_N.size // block.numbers
    step = max(1, _PIECE // block.numbers)
    piece_B = np.empty(min(step, n_blocks) * block.size, np.uint8)
    for at in range(0, n_blocks, step):
        count = min(step, n_blocks - at)
        part_B = piece_B[: count * block.size]
        file.read_into(start + at * block.size, part_B)
        array_N[at * block.numbers : (at + count) * block.numbers] = decode(part_B)


class Shard:
    """One safetensors file. FileError: absent, truncated, or a header that contradicts the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not os.path.isfile(path):  # False where `Path.is_file` raises: a name that is too long
            raise FileError(
                "cannot read {path}: there is no such file; weights must be in model.safetensors (convert"
                " others first; a pickle is never opened)",
                path=path,
            )
        with open_file(path) as file:
            self.tensors = read_header(file).tensors
            self._stamp = file.stamp

    def check_dtype(self, key: str) -> None:
        """FileError: the tensor's numbers are of a dtype that is not read."""
        if self.tensors[key].dtype not in _DTYPES:
            raise FileError(
                "{path}: the tensor {key} is {dtype}, expected one of {known}",
                path=self.path,
                key=plain(key),
                dtype=self.tensors[key].dtype,
                known=", ".join(_DTYPES),
            )

    def fill(self, key: str, first: int, array_N: Any) -> None:
        """Fill a float array with the tensor's numbers from number `first` on, converted a few at a time. FileError:
        the file changed since its header was read."""
        entry = self.tensors[key]
        stored = np.dtype(_DTYPES[entry.dtype])
        start = entry.start + first * stored.itemsize

        def decode(part_B: Any) -> Any:
            part_N = part_B.view(stored)
            return from_bfloat16(part_N) if entry.dtype == "BF16" else part_N

        with open_file(self.path, self._stamp) as file:
            if array_N.dtype == stored:
                file.read_into(start, array_N)
            else:
                fill_decoded(file, start, Block(stored.itemsize, 1), decode, array_N)


def find_shards(folder: Path) -> list[Path]:
    """model.safetensors, or the files that model.safetensors.index.json names, all in the folder itself."""
    index = folder / "model.safetensors.index.json"
    if os.path.exists(folder / "model.safetensors") or not os.path.lexists(index):
        return [folder / "model.safetensors"]
    raw = read_bytes(index, _INDEX)
    flat = raw.count(b"[") + raw.count(b"{") <= _NESTED
    files = read_json(index, _INDEX).get("weight_map") if flat else None
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise FileError("{path} has no weight_map from tensors to files: get it again", path=index)
    names = sorted(set(files.values()))
    for name in names:
        if Path(name).name != name or name in ("", ".", "..") or len(name) > 200 or not name.isprintable():
            raise FileError("{path} names {name}, which is outside its folder", path=index, name=plain(name))
    return [folder / name for name in names]


class Checkpoint:
    """All tensors of a folder. `prefix`: the part of each name that checkpoints of the model without its head leave
    out. FileError: a file that is not sound, or two that hold one tensor."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.prefix = prefix
        shards = [Shard(path) for path in find_shards(folder)]
        self.path = shards[0].path if len(shards) == 1 else folder
        self._home: dict[str, Shard] = {}
        for shard in shards:
            for key in shard.tensors:
                if key in self._home:
                    raise FileError(
                        "cannot read {path} as safetensors: the tensor {key}: {reason}",
                        path=shard.path,
                        key=plain(key),
                        reason=Words("another file of the folder holds it, too"),
                    )
                self._home[key] = shard
        self.unused = set(self._home)  # tensors not looked up yet

    def _stored_name(self, key: str) -> str:
        return key if key in self._home else key.removeprefix(self.prefix)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor. FileError: it is not there, or its dtype is not read."""
        name = self._stored_name(key)
        if name not in self._home:
            raise FileError("{path} lacks the tensor {key} that its config.json asks for", path=self.path, key=key)
        self.unused.discard(name)
        self._home[name].check_dtype(name)
        return self._home[name].tensors[name].shape

    def dtype(self, key: str) -> str:
        """The NumPy dtype that holds the tensor's numbers exactly."""
        name = self._stored_name(key)
        return {"F64": "float64", "F16": "float16"}.get(self._home[name].tensors[name].dtype, "float32")

    def fill(self, key: str, first: int, array_N: Any) -> None:
        """Fill `array_N`, of any float dtype, with the tensor's numbers from number `first` on."""
        name = self._stored_name(key)
        self._home[name].fill(name, first, array_N)


class Stored(Protocol):
    """A source of stored tensors: a folder of safetensors files, or a GGUF file. Tensors have the names and shapes of a
    Hugging Face checkpoint."""

    path: Path
    unused: set[str]

    def shape(self, key: str) -> tuple[int, ...]: ...

    def dtype(self, key: str) -> str: ...

    def fill(self, key: str, first: int, array_N: Any) -> None: ...


def check_shape(checkpoint: Stored, source: Source, shape: tuple[int, ...]) -> None:
    """FileError: the tensor at `source` is not there, cannot be read, or is of another shape than an array of `shape`
    is made from. Nothing is allocated and no number is read."""
    found, expected = checkpoint.shape(source.key), source.stored or shape
    if found != expected:
        raise FileError(
            "{path}: the tensor {key} has shape {found}, its config.json asks for {expected}",
            path=checkpoint.path,
            key=source.key,
            found=list(found),
            expected=list(expected),
        )


def read_tensor(checkpoint: Stored, source: Source, shape: tuple[int, ...], dtype: str) -> Any:
    """The array of `shape` at `source`, contiguous and in `dtype`, in memory of its own. FileError: the tensor's shape
    is another one; the file changed."""
    check_shape(checkpoint, source, shape)
    stored = source.stored or shape
    first, stop = source.rows or (0, stored[0])
    before, rows = first * math.prod(stored[1:]), (stop - first, *stored[1:])
    array = np.empty(shape, dtype)
    with np.errstate(over="ignore"):  # a number too large for float16 becomes infinite, which `finite` refuses
        if source.take is None:
            checkpoint.fill(source.key, before, array.reshape(-1))
        else:
            tensor = np.empty(rows, checkpoint.dtype(source.key))
            checkpoint.fill(source.key, before, tensor.reshape(-1))
            array[...] = source.take(tensor)
    if source.plus:
        array += np.asarray(source.plus, dtype)
    return array


def finite(checkpoint: Stored, source: Source, shape: tuple[int, ...], dtype: str) -> Any:
    """As `read_tensor`. FileError: a number in it is NaN or infinite in `dtype`."""
    array = read_tensor(checkpoint, source, shape, dtype)
    # min and max propagate NaN, and an infinity is one of the two: this needs no copy of the tensor.
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise FileError(
            "{path}: the tensor {key} holds NaN or infinite numbers in {dtype}",
            path=checkpoint.path,
            key=source.key,
            dtype=dtype,
        )
    return array
