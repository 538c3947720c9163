"""Tensors of a checkpoint's safetensors files, memory-mapped, one at a time."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kvsim.errors import FileError
from kvsim.loading.json_file import read_json
from kvsim.loading.sources import Source

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 as its bits


class Shard:
    """One safetensors file. FileError: absent, truncated, or a header that contradicts the file."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        if not path.is_file():
            raise FileError(
                "cannot read {path}: there is no such file; weights must be in model.safetensors (convert"
                " others first; a pickle is never opened)",
                path=path,
            )
        try:
            # The library checks that the header is sound: sizes, offsets, overlaps, the file's end.
            with safe_open(path, framework="np"):
                pass
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                self.header: dict[str, Any] = json.loads(file.read(size))
            self._start = 8 + size
            self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FileError(
                "cannot read {path} as safetensors: {reason} ({size} bytes; is it cut short? get it again)",
                path=path,
                reason=reason,
                size=path.stat().st_size,
            ) from error
        self.header.pop("__metadata__", None)

    def stored(self, key: str) -> tuple[str, Any]:
        """The dtype's name and the stored bytes of one tensor, without a copy."""
        entry = self.header[key]
        name = entry["dtype"]
        if name not in _DTYPES:
            raise FileError(
                "{path}: the tensor {key} is {dtype}, expected one of {known}",
                path=self.path,
                key=key,
                dtype=name,
                known=", ".join(_DTYPES),
            )
        start, stop = entry["data_offsets"]
        raw = self._bytes[self._start + start : self._start + stop]
        return name, raw.view(_DTYPES[name]).reshape(entry["shape"])


def find_shards(folder: Path) -> list[Path]:
    """model.safetensors, or the files that model.safetensors.index.json names, all in the folder itself."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return [folder / "model.safetensors"]
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise FileError("{path} has no weight_map from tensors to files: get it again", path=index)
    names = sorted(set(files.values()))
    for name in names:
        if Path(name).name != name or name in ("", ".", "..") or len(name) > 200:
            raise FileError("{path} names {name}, which is outside its folder", path=index, name=name)
    return [folder / name for name in names]


class Checkpoint:
    """All tensors of a folder. `prefix`: the part of each name that checkpoints of the model without its head leave
    out."""

    owned = False

    def __init__(self, folder: Path, prefix: str) -> None:
        self.prefix = prefix
        self.shards = [Shard(path) for path in find_shards(folder)]
        self.path = self.shards[0].path if len(self.shards) == 1 else folder
        self._home = {key: shard for shard in self.shards for key in shard.header}
        self.unused = set(self._home)  # tensors not read yet

    def __contains__(self, key: str) -> bool:
        return key in self._home or key.removeprefix(self.prefix) in self._home

    def stored(self, key: str) -> tuple[str, Any]:
        """The dtype's name and the tensor as stored, without a copy. FileError: not there."""
        if key not in self:
            raise FileError("{path} lacks the tensor {key} that its config.json asks for", path=self.path, key=key)
        key = key if key in self._home else key.removeprefix(self.prefix)
        self.unused.discard(key)
        return self._home[key].stored(key)


_ROWS = 2**20  # numbers converted at a time: bounds the extra memory of a conversion


def from_bfloat16(bits: Any) -> Any:
    """float32 numbers from the 16 bits of bfloat16: exactly the same numbers."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def convert(part: Any, bfloat16: bool, dtype: str) -> Any:
    """A contiguous copy of `part` in `dtype`, converted a few rows at a time, so that no second copy of a whole tensor
    exists."""
    if not bfloat16:
        return np.array(part, dtype=dtype, order="C")
    array = np.empty(part.shape, dtype)
    step = max(1, _ROWS // max(1, part[:1].size))
    for start in range(0, part.shape[0], step):
        array[start : start + step] = from_bfloat16(part[start : start + step])
    return array


class Stored(Protocol):
    """A source of stored tensors: a folder of safetensors files, or a GGUF file."""

    path: Path
    owned: bool  # does `stored` return a fresh array (True), or a view of the file (False)?

    def stored(self, key: str) -> tuple[str, Any]: ...


def read_tensor(checkpoint: Stored, source: Source, shape: tuple[int, ...], dtype: str) -> Any:
    """A contiguous copy of the array at `source` in `dtype`. FileError: its shape is not `shape`."""
    name, stored = checkpoint.stored(source.key)
    expected = source.stored or shape
    if stored.shape != expected:
        raise FileError(
            "{path}: the tensor {key} has shape {found}, its config.json asks for {expected}",
            path=checkpoint.path,
            key=source.key,
            found=list(stored.shape),
            expected=list(expected),
        )
    part = stored if source.take is None else source.take(stored)
    if part.shape != shape:
        raise ValueError(f"{source.key}: the family makes {part.shape} of it, the model has {shape}")
    with np.errstate(over="ignore"):  # a number too large for float16 becomes infinite, which `finite` refuses
        if checkpoint.owned and source.take is None:
            array = np.ascontiguousarray(part, dtype=dtype)
        else:  # copied even if nothing changes: the file may be rewritten after the check
            array = convert(part, name == "BF16", dtype)
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
