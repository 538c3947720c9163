"""What a cache file holds: every policy that saves loads again, and what does not go together is refused."""

import contextlib
import json
import os
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from kvsim.caches.specs import POLICIES, parse_spec
from kvsim.doctor.against_numpy import make, source_of
from kvsim.errors import FileError, KvsimError, UsageError, Words
from kvsim.files.reading import OpenFile
from kvsim.i18n.language import explain, words
from tests.arrays.runs import ZOO
from tests.caches.quantised.rows import needs
from tests.caches.saved import SPECS, WINDOWED
from tests.models import GPT2_LIKE, PRIMES, make_model


def test_every_policy_that_keeps_rows_is_here():
    assert {parse_spec(spec).name for spec in SPECS} == set(POLICIES) - {"none"}


def assert_same_state(got, wanted):
    for mine, other in zip(got.layers, wanted.layers, strict=True):
        assert mine.state().numbers == other.state().numbers
        assert mine.state().arrays.keys() == other.state().arrays.keys()
        for name, array in mine.state().arrays.items():
            assert np.array_equal(array, other.state().arrays[name]), name


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=3)
@given(
    st.sampled_from(["float64", "float32", "float16"]), st.sampled_from([PRIMES, WINDOWED]),
    st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=12), max_size=4), st.integers(0, 3),
)  # fmt: skip
def test_every_policy_comes_back(spec, dtype, config, steps, cropped):
    needs(spec)
    model = make_model(config, dtype)
    cache = model.new_cache(spec)
    for ids in steps:
        model(ids, cache)
    with contextlib.suppress(UsageError):  # rows are evicted or quantised already
        cache.crop(max(cache.seen - cropped, 0))
    with TemporaryDirectory() as folder:
        model.save_cache(cache, f"{folder}/cache.safetensors")
        again = model.load_cache(f"{folder}/cache.safetensors", spec)
    assert (again.ids, again.seen, again.spec, again.source) == (cache.ids, cache.seen, cache.spec, None)
    assert_same_state(again, cache)
    assert (again.logical_bytes, again.metadata_bytes) == (cache.logical_bytes, cache.metadata_bytes)
    for ids in ([7], [8, 9, 10]):
        assert np.array_equal(model(ids, again), model(ids, cache))


def save(folder, spec, ids=range(20), config=PRIMES):
    """A model, and a file with its cache after `ids`."""
    needs(spec)
    model, path = make_model(config), folder / "cache.safetensors"
    cache = model.new_cache(spec)
    model(list(ids), cache)
    model.save_cache(cache, path)
    return model, path


def rewrite(path, change):
    """Changes the file: `change(arrays, facts)` edits both in place."""
    with safe_open(path, framework="np") as file:
        facts = file.metadata()
    arrays = load_file(path)
    change(arrays, facts)
    save_file(arrays, path, facts)


def assert_refused(model, path, spec, said="cannot read .* as a cache"):
    with pytest.raises(FileError, match=said) as caught:
        model.load_cache(path, spec)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700
    return caught.value


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("more", [[3], [-1], "one less"])
def test_ids_and_rows_must_agree(spec, more, tmp_path):
    model, path = save(tmp_path, spec)

    def change(_, facts):
        ids = json.loads(facts["ids"])
        facts["ids"] = json.dumps(ids[:-1] if more == "one less" else ids + more)

    rewrite(path, change)
    assert_refused(model, path, spec)


def put(name, where, value):
    def change(arrays, _):
        arrays[name][where] = value

    return change


def state(**facts):
    return lambda _, found: found.update(facts)


def numbers(change):
    def edit(_, facts):
        found = json.loads(facts["numbers"])
        change(found)
        facts["numbers"] = json.dumps(found)

    return edit


FIRST = (0, 0, 0)
WRONG = {
    "a NaN": ("dynamic", put("layers.1.keys", FIRST, np.nan)),
    "an infinite value": ("window:5", put("layers.0.values", FIRST, -np.inf)),
    "an infinite score": ("h2o:6", put("layers.0.scores", (0, 1), np.inf)),
    "positions out of order": ("h2o:6", put("layers.1.positions", (0, slice(0, 2)), [1, 0])),
    "a position twice": ("knorm:6", put("layers.1.positions", (0, 1), 0)),
    "a negative position": ("snapkv:6", put("layers.1.positions", (2, 0), -1)),
    "a position to come": ("h2o:6", put("layers.1.positions", (0, -1), 20)),
    "without the newest": ("knorm:6", put("layers.0.positions", 0, np.arange(6))),
    "evicted earlier": ("h2o:6", numbers(lambda n: n[0].update(since=19))),
    "evicted later": ("snapkv:6", numbers(lambda n: n[0].update(since=21))),
    "evicted while there was room": ("snapkv:6", numbers(lambda n: n[0].update(since=6))),
    "never evicted": ("h2o:6", numbers(lambda n: n[0].update(since=0))),
    "a negative scale": ("int8:residual=2,group=4,head", put("layers.0.keys.scale", FIRST, -1)),
    "a scale of NaN": ("fp8:residual=2,group=2", put("layers.0.values.scale", FIRST, np.nan)),
    "a zero point of infinity": ("int8:residual=2,group=5,zero", put("layers.0.values.zero", FIRST, np.inf)),
    "no code of int8": ("int8:residual=2,group=4,head", put("layers.0.keys.payload", FIRST, -128)),
    "no code of int4": ("int4:residual=2,group=2", put("layers.0.keys.payload", FIRST, 0x30)),
    "no code of int4, high": ("int4:residual=2,group=2", put("layers.0.keys.payload", FIRST, 0x03)),
    "no code of fp8": ("fp8:residual=2,group=2", put("layers.0.keys.payload", FIRST, 0.1)),
    "no small code of fp8": ("fp8:residual=2,group=2", put("layers.0.keys.payload", FIRST, 2.0**-10)),
    "a code beyond fp8": ("fp8:residual=2,group=2", put("layers.0.keys.payload", FIRST, 480)),
    "quantised more": ("int8:residual=2,group=4,head", numbers(lambda n: n[0].update(quantised=20))),
    "rows of one layer": ("dynamic", numbers(lambda n: n[1].update(rows=19))),
    "another window": ("window:5", numbers(lambda n: n[1].update(start=15))),
    "other sinks": ("sinks:2+3", numbers(lambda n: n[1].update(start=17))),
    "true": ("dynamic", numbers(lambda n: n[1].update(rows=True))),
    "a float": ("dynamic", numbers(lambda n: n[1].update(rows=20.0))),
    "a number too many": ("dynamic", numbers(lambda n: n[1].update(more=0))),
    "a number too few": ("h2o:6", numbers(lambda n: n[1].pop("since"))),
    "no layer": ("dynamic", numbers(lambda n: n.pop())),
    "deep numbers": ("dynamic", state(numbers="[" * 390)),
    "very deep numbers": ("dynamic", state(numbers="[" * 100_000)),
    "deep ids": ("dynamic", state(ids="[" * 100_000)),
    "closed deep ids": ("dynamic", state(ids="[" * 100_000 + "]" * 100_000)),
    "an id of 5000 digits": ("dynamic", state(ids=f"[{'9' * 5000}]")),
    "an id outside": ("dynamic", state(ids=json.dumps([101] * 20))),
    "no ids": ("dynamic", lambda _, facts: facts.pop("ids")),
    "a source": ("dynamic", state(source="[1, 2]")),
    "a deep source": ("dynamic", state(source="[" * 100_000)),
    "a missing array": ("dynamic", lambda arrays, _: arrays.pop("layers.1.keys")),
    "an array too many": ("dynamic", lambda arrays, _: arrays.update({"x\n" * 500: np.zeros(3)})),
    "an array of another layer": ("dynamic", lambda arrays, _: arrays.update({"layers.2.keys": np.zeros(3)})),
    "float32": ("dynamic", lambda arrays, _: arrays.update({"layers.1.keys": np.zeros((3, 20, 10), "f4")})),
    "bool": ("dynamic", lambda arrays, _: arrays.update({"layers.1.keys": np.zeros((3, 20, 10), "?")})),
}


@pytest.mark.parametrize(("spec", "change"), WRONG.values(), ids=WRONG)
def test_what_does_not_go_together(spec, change, tmp_path):
    model, path = save(tmp_path, spec)
    model.load_cache(path, spec)
    rewrite(path, change)
    error = assert_refused(model, path, spec)
    reason = error.values["reason"]
    assert isinstance(reason, Words)
    assert explain(KvsimError("{reason}", reason=reason), words("zh")) != reason  # no English in a Chinese sentence


def test_rows_and_ids_that_differ_are_told_in_plain_words(tmp_path):
    model, path = save(tmp_path, "dynamic")
    rewrite(path, numbers(lambda n: n[1].update(rows=19)))
    error = assert_refused(model, path, "dynamic", "a layer has 19 rows for 20 ids")
    assert "有 20 个 id，某一层却有 19 行" in explain(error, words("zh"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("name", ["format", "model", "dtype", "spec"])
def test_another_owner_is_named_in_one_line(name, tmp_path):
    model, path = save(tmp_path, "dynamic")
    rewrite(path, lambda _, facts: facts.update({name: "a\nb" * 1000}))
    assert_refused(model, path, "dynamic", "holds a cache of another")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "BF16", "F8_E8M0", "F4", "C64", "F31", "\n"])
def test_foreign_dtypes(dtype, tmp_path):
    """Some of which NumPy does not have."""
    model, path = save(tmp_path, "dynamic")
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["layers.0.keys"]["dtype"] = dtype
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    assert_refused(model, path, "dynamic", "cannot read")


@pytest.mark.parametrize("length", [60, 64, 70])
def test_more_ids_than_fit(length, tmp_path):
    """Under "static:64" of another model, and in the context of learned positions."""
    model, path = save(tmp_path, "dynamic", range(60), GPT2_LIKE)

    def change(arrays, facts):
        facts["ids"] = json.dumps([1] * length)
        facts["numbers"] = json.dumps([{"rows": length}] * 2)
        arrays.update({name: np.zeros((6, length, 10)) for name in arrays})

    rewrite(path, change)
    if length <= GPT2_LIKE.max_context:
        assert model.load_cache(path).seen == length
    else:
        assert_refused(model, path, "dynamic", "70 ids are more than fit")
    rewrite(path, state(spec="static:62"))
    if length <= 62:
        assert model.load_cache(path, "static:62").seen == length
    else:
        assert_refused(model, path, "static:62", "ids are more than fit")


def test_the_source_and_its_rows_must_agree(tmp_path):
    model, path = make(ZOO["t5"], "numpy", "float64"), tmp_path / "cache.safetensors"
    cache = model.new_cache()
    model.save_cache(cache, path)
    assert model.load_cache(path).source is None
    model([1, 2, 3], cache, **source_of(model.config))
    model.save_cache(cache, path)
    before = path.read_bytes()
    assert model.load_cache(path).source == cache.source
    for change in (
        state(source="null"), state(source=json.dumps([*cache.source, 1])), state(source=json.dumps([10**6])),
        state(source="{}"), put("cross.0.keys", FIRST, np.nan), lambda arrays, _: arrays.pop("cross.0.values"),
    ):  # fmt: skip
        path.write_bytes(before)
        rewrite(path, change)
        assert_refused(model, path, "dynamic")


@pytest.mark.parametrize("damage", ["shrinks", "changes"])
def test_a_file_that_is_written_to_while_it_is_read(damage, tmp_path, monkeypatch):
    model, path = save(tmp_path, "dynamic")
    read, calls = OpenFile.read_into, []

    def read_into(self, start, array):
        calls.append(start)
        if len(calls) == 3:
            if damage == "shrinks":
                os.truncate(path, path.stat().st_size - 100)
            else:
                with path.open("r+b") as file:
                    file.seek(-8, os.SEEK_END)
                    file.write(bytes(8))
                os.utime(path, ns=(1, 1))  # however coarse its clock is
        return read(self, start, array)

    monkeypatch.setattr(OpenFile, "read_into", read_into)
    assert_refused(model, path, "dynamic", "changed while it was read")


def test_a_cache_that_was_refused_is_empty(tmp_path):
    from kvsim.caches.cache_file import load_cache

    model, path = save(tmp_path, "dynamic")
    rewrite(path, put("layers.1.values", FIRST, np.nan))  # after layer 0 was filled
    cache = model.new_cache()
    with pytest.raises(FileError, match="not finite"):
        load_cache(cache, model.fingerprint(), path)
    assert (cache.seen, cache.ids, cache.logical_bytes) == (0, [], 0)


def test_what_would_not_load_is_not_saved(tmp_path):
    model, path = save(tmp_path, "dynamic")
    before = path.read_bytes()
    cache = model.new_cache()
    model([1, 2, 3], cache)
    cache.layers[1].keys[0, 0, 0] = np.inf
    with pytest.raises(UsageError, match=r"dynamic cannot be saved: layers\.1\.keys has numbers that are not finite"):
        model.save_cache(cache, path)
    cache = model.new_cache()
    model([1, 2, 3], cache)
    cache.layers[1].crop(2)  # as if its step had been interrupted
    with pytest.raises(UsageError, match="cannot be saved"):
        model.save_cache(cache, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_header_that_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    model, path = save(tmp_path, "dynamic")
    monkeypatch.setattr("kvsim.files.safetensors_arrays.MOST", 100)
    with pytest.raises(UsageError, match="dynamic cannot be saved: its header has more than 100 bytes"):
        model.save_cache(model.load_cache(path), path)


def test_saving_and_loading_hold_one_array_at_a_time(tmp_path):
    model, path = make_model(replace(PRIMES, max_context=10**5)), tmp_path / "cache.safetensors"
    cache = model.new_cache("static:20000")
    for layer in cache.layers:
        layer.rows = 20000
        layer.keys[...] = layer.values[...] = 1.0
    cache.seen, cache.ids = 20000, [1] * 20000
    size = cache.logical_bytes  # of two layers with two arrays each
    peaks = []
    for use in (lambda: model.save_cache(cache, path), lambda: model.load_cache(path, "static:20000")):
        tracemalloc.start()
        use()
        peaks.append(tracemalloc.get_traced_memory()[1] / size)
        tracemalloc.stop()
    assert path.stat().st_size > size
    assert peaks[0] < 0.4
    assert peaks[1] < 1.7  # what is handed out, and the arrays of one layer


def test_the_library_reads_the_file(tmp_path):
    model, path = save(tmp_path, "h2o:6")
    cache = model.load_cache(path, "h2o:6")
    found = load_file(Path(path))
    for i, layer in enumerate(cache.layers):
        for name, array in layer.state().arrays.items():
            assert np.array_equal(found[f"layers.{i}.{name}"], array)
