"""The caches int8, int4 and fp8: bytes, operations, backends."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import kvsim
from kvsim.arrays import get_backend
from kvsim.caches import new_cache
from kvsim.caches.base import Shape
from kvsim.caches.quantised.layer import QuantisedLayer
from kvsim.config import LayerKind
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model, make_ops
from kvsim.spans import Span
from tests.arrays.runs import open_strict
from tests.caches.quantised.rows import (
    CONFIGS,
    IDS,
    SMALL,
    SPECS,
    count_quantised,
    feed,
    held_bytes,
    layer_of,
    needs,
    rows,
)
from tests.models import CLOSE, GPT2_LIKE, PRIMES, demo, make_model

# Bytes


def gpt2_cache(spec, dtype="float16"):
    """4,096 tokens in a layer of GPT-2's shape (twelve heads of 64) and in another one."""
    config = replace(
        GPT2_LIKE, max_context=4096, n_layers=2, d_model=768, n_heads=12, n_kv_heads=12, d_head=64,
        layers=(LayerKind(),) * 2,
    )  # fmt: skip
    cache = new_cache(spec, config, make_ops(get_backend("numpy"), dtype))
    made = rows(Shape(12, 64, 64), 4096, dtype=dtype)
    for pos in (Span(0, 4095), Span(4095, 4096)):
        for layer in cache.layers:
            layer.update(*(x[:, pos.start : pos.stop] for x in made), pos, lambda k, v, _: (k, v))
        cache.commit(pos)
    return cache


@pytest.mark.parametrize(
    ("spec", "share", "expected"),
    [
        ("int8", (3968 * (0.5 + 1 / 64) + 128) / 4096, "0.53076"),
        ("int4", (3968 * (0.25 + 1 / 64) + 128) / 4096, "0.28857"),
        ("int8:zero", (3968 * (0.5 + 2 / 64) + 128) / 4096, "0.54590"),
        ("int8:head", (3968 * (0.5 + 1 / 64) + 128) / 4096, "0.53076"),
        ("fp8", (3968 * (0.5 + 1 / 64) + 128) / 4096, "0.53076"),
    ],
)
def test_a_share_of_float16s_bytes(spec, share, expected):
    needs(spec)
    cache = gpt2_cache(spec)
    whole = 2 * 12 * 4096 * 2 * 64 * 2
    assert cache.logical_bytes + cache.metadata_bytes == share * whole
    assert f"{share:.5f}" == expected
    row = 12 * 2 * 64
    assert cache.logical_bytes == 2 * row * (3968 * (1 if spec != "int4" else 0.5) + 128 * 2)
    assert cache.allocated_bytes - cache.logical_bytes == cache.wasted.reserved == 2 * row * 64 * 2


def arrays_in(value):
    """Every array that a layer holds, in whatever container."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("spec", SPECS)
def test_bytes_are_those_of_the_arrays_and_no_copy_is_kept(spec, dtype):
    needs(spec)
    shape = Shape(2, 4, 6)
    layer, made = layer_of(spec, shape, dtype), rows(shape, 40, dtype=dtype)
    for size in (0, 1, 2, 1, 9, 1, 1, 1, 20):
        if size:
            feed(layer, made, [size], layer.rows)
        assert (layer.keys.shape, layer.values.shape) == ((2, layer.rows, 4), (2, layer.rows, 6))
        tables = [x for packed in layer._packed for x in packed[1:] if x is not None]
        payload = sum(packed.payload.nbytes for packed in layer._packed)
        newest = (layer.rows - layer.quantised) * 2 * 10 * np.dtype(dtype).itemsize
        assert payload == layer.quantised * 2 * 10 // (2 if spec.startswith("int4") else 1)
        assert layer.metadata_bytes == sum(x.nbytes for x in tables)
        assert layer.logical_bytes == payload + newest
        assert layer.allocated_bytes == payload + layer._keys.nbytes + layer._values.nbytes
        assert layer.waste.reserved == layer.allocated_bytes - layer.logical_bytes
        assert sum(x.nbytes for x in arrays_in(list(vars(layer).values()))) == (
            layer.allocated_bytes + layer.metadata_bytes
        )
        assert layer._keys.shape[1] <= max(3 + 2, layer.rows - layer.quantised)


def test_single_steps_allocate_once_in_a_group(monkeypatch):
    """Deterministic cost: the residual's arrays double up to residual + group rows, then are allocated once a group."""
    layer, made = layer_of("int8:group=8,residual=16", Shape(1, 4, 8)), rows(Shape(1, 4, 8), 80)
    count = []
    allocate = QuantisedLayer._allocate
    monkeypatch.setattr(QuantisedLayer, "_allocate", lambda self, n: count.append(n) or allocate(self, n))
    feed(layer, made, [1] * 80)
    assert count == [1, 2, 4, 8, 16] + [24] * 9


# Operations


@pytest.mark.parametrize("spec", SPECS)
def test_crop_goes_as_far_back_as_a_fresh_run_has_quantised(spec):
    needs(spec)
    shape, made = Shape(2, 4, 6), rows(Shape(2, 4, 6), 30)
    for seen in range(1, 16):
        for length in range(seen + 1):
            layer = layer_of(spec, shape)
            feed(layer, made, [seen])
            if count_quantised(length, 2, 3) != count_quantised(seen, 2, 3):
                with pytest.raises(UsageError, match=f"keep at least {count_quantised(seen, 2, 3) + 3}, or clear"):
                    layer.check_crop(length)
                assert count_quantised(count_quantised(seen, 2, 3) + 3, 2, 3) == count_quantised(seen, 2, 3)
                continue
            layer.check_crop(length)
            layer.crop(length)
            fresh = layer_of(spec, shape)
            feed(fresh, made, [length] if length else [])
            feed(layer, made, [20 - length, 5], length)
            feed(fresh, made, [20 - length, 5], length)
            assert np.array_equal(layer.keys, fresh.keys)
            assert np.array_equal(layer.values, fresh.values)
            assert held_bytes(layer) == held_bytes(fresh)


def test_a_refused_crop_changes_nothing():
    model = make_model(CONFIGS["windowed"])
    cache = model.new_cache(f"int8:{SMALL}")
    model(IDS[:9], cache)
    keys = [layer.keys.copy() for layer in cache.layers]
    with pytest.raises(UsageError, match="cannot crop to 3 tokens: a new cache would not have quantised the first 6"):
        cache.crop(3)
    assert cache.seen == 9
    assert all(np.array_equal(layer.keys, held) for layer, held in zip(cache.layers, keys, strict=True))


@pytest.mark.parametrize("name", ["rope", "windowed", "absorbed"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_fork_is_the_same_bit_for_bit_and_goes_its_own_way(spec, name):
    needs(spec)
    model = make_model(CONFIGS[name])
    cache, again = model.new_cache(spec), model.new_cache(spec)
    for held in (cache, again):
        model(IDS[:8], held)
        model(IDS[8:11], held)
    fork = cache.fork()
    assert (fork.spec, fork.seen, fork.ids) == (cache.spec, 11, cache.ids)
    for one, other in zip(cache.layers, fork.layers, strict=True):
        assert np.array_equal(one.keys, other.keys)
        assert np.array_equal(one.values, other.values)
        mine, theirs = one.state(), other.state()
        assert {n: x.tobytes() for n, x in mine.arrays.items()} == {n: x.tobytes() for n, x in theirs.arrays.items()}
        held = [x for x in arrays_in(list(vars(other).values())) if x.size]
        assert not any(np.shares_memory(x, y) for x in held for y in arrays_in(list(vars(one).values())))
    other = model(IDS[3:12], fork)
    assert np.array_equal(model(IDS[11:], cache), model(IDS[11:], again))
    fork_again = again.fork()
    again.crop(again.seen)
    assert np.array_equal(model([5], fork_again), model([5], cache))
    assert fork.seen == 20
    assert np.isfinite(other).all()


def test_a_cleared_cache_is_a_fresh_one():
    model = make_model(PRIMES)
    cache, fresh = model.new_cache(f"int4:{SMALL}"), model.new_cache(f"int4:{SMALL}")
    model(IDS[:9], cache)
    cache.clear()
    assert (cache.seen, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes) == (0, 0, 0, 0)
    assert np.array_equal(model(IDS, cache), model(IDS, fresh))
    assert np.array_equal(model([1], cache), model([1], fresh))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("before", [0, 3, 9])
def test_an_interrupted_step_can_be_run_again(spec, before, monkeypatch):
    """The second layer fails after the first has written its rows: none of them is quantised."""
    needs(spec)
    model = make_model(PRIMES)
    cache, calm = model.new_cache(spec), model.new_cache(spec)
    if before:
        for held in (cache, calm):
            model(IDS[:before], held)
    tables = held_bytes(cache.layers[0])

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache.layers[1], "update", fail)
        with pytest.raises(KeyboardInterrupt):
            model([50, 51, 52, 53, 54, 55, 56], cache)
    assert cache.seen == before
    assert held_bytes(cache.layers[0]) == tables
    assert np.array_equal(model(IDS[before:20], cache), model(IDS[before:20], calm))
    assert np.array_equal(model(IDS[20:], cache), model(IDS[20:], calm))
    assert [held_bytes(layer) for layer in cache.layers] == [held_bytes(layer) for layer in calm.layers]


def test_a_step_interrupted_between_two_commits_can_be_run_again(monkeypatch):
    """The first layer has been quantised, the second has not: both return to the rows before the step."""
    model = make_model(PRIMES)
    cache, calm = model.new_cache(f"int8:{SMALL}"), model.new_cache(f"int8:{SMALL}")

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache.layers[1], "commit", fail)
        with pytest.raises(KeyboardInterrupt):
            model(IDS[:9], cache)
    for new in (IDS[:9], IDS[9:10], IDS[10:17]):
        assert np.array_equal(model(new, cache), model(new, calm))


# Array libraries


def run(model, spec):
    cache = model.new_cache(spec)
    parts = [model(IDS[a:b], cache) for a, b in ((0, 9), (9, 10), (10, 17), (17, 24))]
    return cache, np.concatenate([model.ops.backend.to_host(part) for part in parts])


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[1], SPECS[3], SPECS[6]])
def test_the_policy_is_array_api(spec):
    """array-api-strict has no float16, so both sides use float32 for the scales."""
    results = []
    for backend in (open_strict(), get_backend("numpy")):
        other = backend._replace(xp=SimpleNamespace(**vars(backend.xp)))
        other.xp.float16 = other.xp.float32
        results.append(run(Model(PRIMES, random_weights(PRIMES), backend=other, dtype="float64"), spec)[1])
    assert np.abs(results[0] - results[1]).max() <= CLOSE["float64"] * np.abs(results[1]).max()


@pytest.mark.parametrize("spec", SPECS)
def test_exact_and_meta_hold_what_numpy_holds(spec):
    """`exact` agrees up to rounding, `meta` in shapes and bytes."""
    needs(spec)
    kept, wanted = run(make_model(PRIMES), spec)
    cache, got = run(Model(PRIMES, random_weights(PRIMES), backend="exact", dtype="float64"), spec)
    assert np.abs(got - wanted).max() <= CLOSE["float64"] * np.abs(wanted).max()
    shapes = (meta := Model(PRIMES, random_weights(PRIMES), backend="meta", dtype="float64")).new_cache(spec)
    for a, b in ((0, 9), (9, 10), (10, 17), (17, 24)):
        meta(IDS[a:b], shapes)
    for other in (cache, shapes):
        assert other.logical_bytes == kept.logical_bytes
        assert other.metadata_bytes == kept.metadata_bytes
        assert other.allocated_bytes == kept.allocated_bytes


@pytest.mark.dev
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS)
def test_torch_runs_them(spec, dtype):
    """The same rows give the same bytes and numbers, forks included (except bfloat16, which NumPy lacks)."""
    needs(spec)
    import torch

    shape, kind = Shape(2, 4, 6), "float64" if dtype == "bfloat16" else dtype
    made = [torch.asarray(x).to(getattr(torch, dtype)) for x in rows(shape, 20, dtype=kind)]
    layer = layer_of(spec, shape, dtype, "torch")
    mirror = layer_of(spec, shape, kind)
    feed(layer, made, [9, 1, 1, 9])
    feed(mirror, [x.to(getattr(torch, kind)).numpy() for x in made], [9, 1, 1, 9])
    fork = layer.fresh()
    fork.restore(layer.state())
    for one in (layer, fork):
        for packed, other in zip(one._packed, mirror._packed, strict=True):
            assert packed.payload.view(torch.uint8).numpy().tobytes() == other.payload.tobytes()
            assert packed.scale.numpy().tobytes() == other.scale.tobytes()
        for got, wanted in ((one.keys, mirror.keys), (one.values, mirror.values)):
            assert got.dtype == getattr(torch, dtype)
            assert torch.equal(got, torch.asarray(wanted).to(got.dtype))
    assert (layer.logical_bytes, layer.metadata_bytes) == (
        mirror.logical_bytes if kind == dtype else layer.logical_bytes,
        mirror.metadata_bytes,
    )
    model = Model(PRIMES, random_weights(PRIMES), backend="torch", dtype=dtype)
    _, got = run(model, spec)
    assert np.isfinite(got).all()


def test_generation_goes_through_them():
    model, text = demo(), "中华人民"
    plain = kvsim.generate(model, text, max_new_tokens=8)
    for spec in ("int8:residual=1,group=2", "int4:residual=1,group=2,zero"):
        assert len(kvsim.generate(model, text, max_new_tokens=8, cache=spec).ids) == len(plain.ids)
    assert kvsim.generate(model, text, max_new_tokens=8, cache="int8").ids == plain.ids  # all still as it came
    with pytest.raises(UsageError, match="the cache int8:group=2,residual=1 is lossy"):
        kvsim.trace(text, model=model, cache="int8:residual=1,group=2")
    with pytest.raises(UsageError, match="count supports"):
        kvsim.count("gpt2", prompt=4, new=4, cache="int8")
