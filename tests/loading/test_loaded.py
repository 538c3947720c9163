"""Loaded is loaded: a model shares nothing with its files, and a file that changes while it is read is refused."""

import ast
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import kvsim
from kvsim.errors import FileError
from kvsim.files.reading import OpenFile
from kvsim.loading.checkpoint import Checkpoint
from kvsim.weights import list_arrays
from tests.fuzz.targets import gguf, index, safetensors
from tests.loading.folders import change_config, change_tensors, copy_demo

KINDS = {"safetensors": safetensors.valid, "index": index.valid, "gguf": gguf.valid}


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    """The path of a model of two layers."""
    if request.param == "gguf":
        pytest.importorskip("gguf")
    return KINDS[request.param](tmp_path)


def tensor_files(place):
    return [place] if place.is_file() else sorted(place.glob("*.safetensors"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_array_has_memory_of_its_own(place, dtype):
    for array in list_arrays(kvsim.load(place, dtype=dtype).weights):
        base = array
        while base is not None:
            assert type(base) is np.ndarray
            base = base.base


def test_files_that_are_written_over_do_not_change_the_model(place):
    """In place, as rsync --inplace does, and cut short, which ends a process that has mapped the file by a signal."""
    model = kvsim.load(place)
    before = np.array(model([5, 6]))
    for file in tensor_files(place):
        with file.open("r+b") as raw:
            raw.seek(-2000, os.SEEK_END)
            raw.write(bytes(2000))
    assert np.array_equal(model([5, 6]), before)
    for file in tensor_files(place):
        os.truncate(file, 100)
    assert np.array_equal(model([5, 6]), before)


def overwrite(file):
    found = file.stat()
    with file.open("r+b") as raw:
        raw.seek(-8, os.SEEK_END)
        raw.write(bytes(8))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))  # what a write a clock tick later does


def replace(file):
    shutil.copy2(file, file.with_name("other"))
    os.replace(file.with_name("other"), file)


@pytest.mark.parametrize("change", [overwrite, replace, lambda file: os.truncate(file, file.stat().st_size - 8)])
@pytest.mark.parametrize("number", [1, 7])
def test_files_that_change_while_they_are_read(place, change, number, monkeypatch):
    """After some tensors were read, and before others are."""
    calls, read_into = [], OpenFile.read_into

    def read(self, start, array):
        read_into(self, start, array)
        calls.append(start)
        if len(calls) == len(tensor_files(place)) * (1 if place.is_file() else 2) + number:  # those of the headers
            for file in tensor_files(place):
                change(file)

    monkeypatch.setattr(OpenFile, "read_into", read)
    with pytest.raises(FileError, match="changed while it was read: try again when nothing writes to it"):
        kvsim.load(place)


def test_nothing_is_mapped():
    """The package names no mapped array, and no reader of another library that maps files."""
    names = {"memmap", "mmap", "safe_open", "load_file", "GGUFReader"}
    for file in Path(kvsim.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            used = {getattr(node, "id", None), getattr(node, "attr", None)}
            used |= {alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)}
            assert not used & names, f"{file}: {used & names}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 2**30, "num_key_value_heads": 2**30}, "q_proj.weight has shape [64, 64], its config"),
        ({"intermediate_size": 2**39}, "gate_proj.weight has shape [256, 64], its config.json asks for [549755813888"),
        ({"num_hidden_layers": 10_000}, "lacks the tensor model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, "holds 9 tensors that its config.json does not ask for"),
    ],
)
def test_shapes_are_compared_before_anything_is_allocated(fields, message, tmp_path, monkeypatch):
    def fill(*given):
        pytest.fail("numbers were read")

    monkeypatch.setattr(Checkpoint, "fill", fill)
    monkeypatch.setattr("kvsim.loading.checkpoint.np.empty", fill)
    with pytest.raises(FileError) as caught:
        kvsim.load(change_config(copy_demo(tmp_path), **fields))
    assert message in str(caught.value)


def test_a_tensor_in_two_files(tmp_path):
    folder = index.write(tmp_path, index.VALID, dict(zip(index.FILES, [*index.PARTS.values()][:1] * 2, strict=True)))
    with pytest.raises(FileError, match="another file of the folder holds it, too"):
        kvsim.load(folder)


def test_an_index_of_empty_lists(tmp_path, monkeypatch):
    """It is not parsed: they would take 20 times their bytes."""
    monkeypatch.setattr("kvsim.loading.checkpoint.read_json", lambda *given: pytest.fail("it was parsed"))
    folder = index.write(tmp_path, b'{"weight_map": [' + b"[]," * 2000 + b"[]]}", index.PARTS)
    with pytest.raises(FileError, match="has no weight_map from tensors to files"):
        kvsim.load(folder)


@pytest.mark.parametrize("name", ["中" * 100, "a\nb", "a\0b", "\ud800"])
def test_an_index_with_names_that_no_file_can_have(name, tmp_path):
    folder = index.write(tmp_path, {"weight_map": {**index.MAP, "model.norm.weight": name}}, index.PARTS)
    with pytest.raises(FileError) as caught:
        kvsim.load(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_names_of_tensors_are_shown_on_one_line(tmp_path):
    folder = change_tensors(copy_demo(tmp_path), **{"a\nb" * 1000: np.ones(1, np.float32)})
    with pytest.raises(FileError, match="holds 1 tensors") as caught:
        kvsim.load(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400
