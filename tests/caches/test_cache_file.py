"""Caches in files: restored exactly, or refused with the reason."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import FileError, UsageError
from tests.arrays.runs import ZOO
from tests.models import PRIMES, make_model

SPECS = ("dynamic", "static:40", "window:5", "offload:dynamic")


@pytest.mark.parametrize("spec", SPECS)
def test_a_cache_goes_on_as_if_it_had_never_been_in_a_file(spec, tmp_path):
    model = make_model(PRIMES)
    cache = model.new_cache(spec)
    model(list(range(9)), cache)
    model.save_cache(cache, tmp_path / "cache.safetensors")
    again = model.load_cache(tmp_path / "cache.safetensors", spec)
    assert (again.ids, again.seen, again.spec) == (cache.ids, 9, spec)
    assert np.array_equal(model([11, 12], again), model([11, 12], cache))
    assert again.logical_bytes == cache.logical_bytes
    assert os.listdir(tmp_path) == ["cache.safetensors"]


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].audio is None])
def test_any_kind_of_attention(name, tmp_path):
    model = make(ZOO[name], "numpy", "float64")
    cache = model.new_cache()
    model(IDS[:9], cache, **source_of(model.config))
    model.save_cache(cache, tmp_path / "cache.safetensors")
    again = model.load_cache(tmp_path / "cache.safetensors")
    assert np.array_equal(model(IDS[9:], again), model(IDS[9:], cache))
    assert again.source == cache.source


def test_whose_it_is_must_be_right(tmp_path):
    model, path = make_model(PRIMES), tmp_path / "cache.safetensors"
    cache = model.new_cache()
    model([1, 2, 3], cache)
    model.save_cache(cache, path)
    for other, spec, said in (
        (make_model(PRIMES, seed=1), "dynamic", "holds a cache of another model"),
        (make_model(PRIMES, "float32"), "dynamic", "another"),
        (model, "static:8", "holds a cache of another policy: dynamic, expected static:8"),
    ):
        with pytest.raises(FileError, match=said):
            other.load_cache(path, spec)
    with pytest.raises(UsageError, match="made for another model"):
        make_model(PRIMES, seed=1).save_cache(cache, path)
    with pytest.raises(UsageError, match="keeps nothing"):
        model.save_cache(model.new_cache("none"), path)
    with pytest.raises(FileError, match="there is no folder"):
        model.save_cache(cache, tmp_path / "nowhere" / "cache.safetensors")


def change(path, arrays=None, **facts):
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    save_file({**load_file(path), **(arrays or {})}, path, {**metadata, **facts})


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({}, {"numbers": json.dumps([{"rows": 10**15}, {"rows": 3}])}),
        ({}, {"numbers": json.dumps([{"rows": -1}, {"rows": 3}])}),
        ({}, {"numbers": json.dumps([{"rows": 2}, {"rows": 3}])}),
        ({}, {"numbers": json.dumps([{"rows": 3}])}),
        ({}, {"numbers": "no"}),
        ({}, {"ids": json.dumps([1, 2, 101])}),
        ({}, {"ids": json.dumps([1, 2])}),
        ({}, {"ids": json.dumps([1, 2, "3"])}),
        ({}, {"format": "other"}),
        ({"layers.0.keys": np.zeros((3, 3, 10), "f4")}, {}),
        ({"layers.0.keys": np.zeros((1, 3, 10))}, {}),
        ({"layers.0.keys": np.zeros((3, 1, 10))}, {}),
        ({"layers.0.keys": np.zeros((3, 30))}, {}),
        ({"layers.7.keys": np.zeros((3, 3, 10))}, {}),
    ],
)
def test_a_file_that_was_changed_is_refused(arrays, facts, tmp_path):
    model, path = make_model(PRIMES), tmp_path / "cache.safetensors"
    cache = model.new_cache()
    model([1, 2, 3], cache)
    model.save_cache(cache, path)
    change(path, arrays, **facts)
    with pytest.raises(FileError):
        model.load_cache(path)


@pytest.mark.parametrize("keep", [0, 7, 100, -5])
def test_a_file_that_was_cut(keep, tmp_path):
    model, path = make_model(PRIMES), tmp_path / "cache.safetensors"
    cache = model.new_cache()
    model([1, 2, 3], cache)
    model.save_cache(cache, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError):
        model.load_cache(path)
    with pytest.raises(FileError):
        model.load_cache(tmp_path / "nothing")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    model, path = make_model(PRIMES), tmp_path / "cache.safetensors"
    cache = model.new_cache()
    model([1, 2, 3], cache)
    model.save_cache(cache, path)
    before = path.read_bytes()
    model([4], cache)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FileError):
        model.save_cache(cache, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["cache.safetensors"]
