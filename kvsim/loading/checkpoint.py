"""Tensors of a safetensors file, memory-mapped, one at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.errors import FileError
from kvsim.loading.families import Source

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 as its bits


class Checkpoint:
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
                self._header: dict[str, Any] = json.loads(file.read(size))
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
        self._header.pop("__metadata__", None)
        self.unused = set(self._header)  # what nobody has asked for yet

    def stored(self, key: str) -> tuple[str, Any]:
        """The dtype's name and the bytes as stored, of one tensor, without a copy."""
        if key not in self._header:
            raise FileError("{path} lacks the tensor {key} that its config.json asks for", path=self.path, key=key)
        self.unused.discard(key)
        entry = self._header[key]
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


def from_bfloat16(bits: Any) -> Any:
    """bfloat16 given by its 16 bits, as float32: the same number, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_tensor(checkpoint: Checkpoint, source: Source, shape: tuple[int, ...], dtype: str) -> Any:
    """A copy of the array at `source` in `dtype`, contiguous. FileError: not of `shape`."""
    name, stored = checkpoint.stored(source.key)
    expected = shape[::-1] if source.transposed else shape
    start, stop = 0, expected[-1]
    if source.columns is not None:
        start, stop, width = source.columns
        expected = (*expected[:-1], width)
    if stored.shape != expected:
        raise FileError(
            "{path}: the tensor {key} has shape {found}, its config.json asks for {expected}",
            path=checkpoint.path,
            key=source.key,
            found=list(stored.shape),
            expected=list(expected),
        )
    part = stored[..., start:stop]
    part = from_bfloat16(part) if name == "BF16" else part
    with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite, and is refused
        # A copy even where nothing changes: the file may be rewritten after it was checked.
        return np.array(part.T if source.transposed else part, dtype=dtype, order="C")


def finite(checkpoint: Checkpoint, source: Source, shape: tuple[int, ...], dtype: str) -> Any:
    """`read_tensor`, refused if a number in it is NaN or infinite in `dtype`."""
    array = read_tensor(checkpoint, source, shape, dtype)
    # NaN passes through min and max, and an infinity is one of the two: no copy of the tensor is made.
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise FileError(
            "{path}: the tensor {key} holds NaN or infinite numbers in {dtype}",
            path=checkpoint.path,
            key=source.key,
            dtype=dtype,
        )
    return array
