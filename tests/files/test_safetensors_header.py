"""The header of a safetensors file: sound, or refused before anything is made for it."""

import json

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kvsim.errors import FileError
from kvsim.files.reading import open_file
from kvsim.files.safetensors_header import Entry, read_header

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4), np.int8), "c": np.array(1.5)}


def header_of(path):
    with open_file(path) as file:
        return read_header(file)


def written(folder, header, data=bytes(8)):
    """A file with this header, an object or the text itself."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    path = folder / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_every_tensor_is_where_the_library_put_it(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(TENSORS, {"by": "test"}))
    header, raw = header_of(path), path.read_bytes()
    assert header.metadata == {"by": "test"}
    assert {key: entry.shape for key, entry in header.tensors.items()} == {k: t.shape for k, t in TENSORS.items()}
    for key, entry in header.tensors.items():
        assert raw[entry.start : entry.stop] == TENSORS[key].tobytes()
    assert header.tensors["c"] == Entry("F64", (), len(raw) - 32, len(raw) - 24)


def one(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


UNSOUND = {
    "not JSON": "{",
    "no object": "[]",
    "deep": "[" * 100_000,
    "not UTF-8": "\ud800",
    "twice": '{"a": {}, "a": {}}',
    "no fields": {"a": {}},
    "no entry": {"a": 3},
    "another field": {"a": {**one()["a"], "x": 1}},
    "unknown dtype": one("F31"),
    "a list as dtype": one(["F32"]),
    "a negative size": one(shape=[-2]),
    "a float size": one(shape=[2.0]),
    "true as size": one(shape=[True, 2]),
    "too many dimensions": one(shape=[1] * 40 + [2]),
    "a product beyond 64 bits": one(shape=[2**60] * 30),
    "2^60 numbers": one(shape=[2**60], offsets=[0, 2**62]),
    "one offset": one(offsets=[8]),
    "reversed offsets": one(offsets=[8, 0]),
    "beyond the file": one(offsets=[8, 16]),
    "a gap": one(shape=[1], offsets=[4, 8]),
    "bytes left over": one(shape=[1], offsets=[0, 4]),
    "overlap": one() | {"b": one()["a"]},
    "metadata of numbers": one() | {"__metadata__": {"x": 1}},
    "metadata as a list": one() | {"__metadata__": []},
    "a name of two lines": {"a\nb" * 1000: 3},
}


@pytest.mark.parametrize("header", UNSOUND.values(), ids=UNSOUND)
def test_an_unsound_header(header, tmp_path):
    path = written(tmp_path, header)
    with pytest.raises(FileError, match="as safetensors") as caught:
        header_of(path)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("raw", [b"", b"1234567", b"\xff" * 9, (2**63 - 1).to_bytes(8, "little") + b"{}", bytes(8)])
def test_a_header_that_the_file_cannot_hold(raw, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    with pytest.raises(FileError, match="as safetensors"):
        header_of(path)


def test_a_header_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("kvsim.files.safetensors_header.MOST", 50)
    with pytest.raises(FileError, match="its header has more than 50 bytes"):
        header_of(written(tmp_path, one()))


def test_what_the_library_refuses_is_refused(tmp_path):
    """Every change of one byte of a small file: where the library raises, so does the reader."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"a": np.zeros(2, np.float32), "b": np.zeros(3, np.int16)}))
    raw = path.read_bytes()
    refused = 0
    for at in range(len(raw) - 14):
        for bit in (0, 3, 6):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            try:
                with safe_open(path, framework="np"):
                    continue
            except SafetensorError:
                refused += 1
            with pytest.raises(FileError):
                header_of(path)
    assert refused > 200
