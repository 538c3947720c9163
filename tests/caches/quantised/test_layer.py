"""The caches int8, int4 and fp8: specs, which rows are quantised when, and the rows read."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.arrays import get_backend
from kvsim.caches import new_cache
from kvsim.caches.base import Shape
from kvsim.caches.quantised import layer as quantised
from kvsim.caches.quantised.layer import Int8Layer
from kvsim.caches.quantised.options import Options
from kvsim.caches.specs import parse_spec
from kvsim.caches.window import WindowLayer
from kvsim.config import LayerKind
from kvsim.errors import UsageError
from kvsim.model import make_ops
from kvsim.spans import Span
from tests.arrays.runs import open_strict
from tests.caches.quantised.rows import (
    CONFIGS,
    IDS,
    SPECS,
    count_quantised,
    expected_rows,
    feed,
    latent,
    layer_of,
    needs,
    rows,
)
from tests.models import CLOSE, PRIMES, cuts, make_model

# Specs


@pytest.mark.parametrize(
    ("spec", "printed"),
    [
        ("int8", "int8"),
        ("int4", "int4"),
        ("int8:group=64", "int8"),
        ("int8:residual=128,group=064", "int8"),
        ("int8:group=2,residual=64,zero,head", "int8:group=2,residual=64,zero,head"),
        ("int8:head,zero,residual=64,group=2", "int8:group=2,residual=64,zero,head"),
        ("int4:head", "int4:head"),
        ("int4:zero", "int4:zero"),
        ("int8:residual=1", "int8:residual=1"),
        ("fp8:group=5", "fp8:group=5"),
        ("fp8:head", "fp8:head"),
    ],
)
def test_a_spec_prints_back_in_one_order(spec, printed):
    assert str(parse_spec(spec)) == printed
    assert parse_spec(printed) == parse_spec(spec)
    if not spec.startswith("fp8"):
        assert make_model(PRIMES).new_cache(spec).spec == printed


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("int8:", "takes group=N, residual=N, zero, head, each once and N at least 1: ':' is none of them"),
        ("int8:foo", "'foo' is none of them"),
        ("int8:group=0", "'group=0' is none of them"),
        ("int8:residual=0", "'residual=0' is none of them"),
        ("int8:group=-2", "'group=-2'"),
        ("int8:group", "'group'"),
        ("int8:group=２", "'group=２'"),
        ("int8:group=2,group=2", "'group=2'"),
        ("int8:zero,zero", "'zero'"),
        ("int8:zero=1", "'zero=1'"),
        ("int8:head,", "'' is none of them"),
        ("int8:64", "'64'"),
        ("int8:group=1000000000000", "between 1000000000000 channels, but a value has 10"),
        ("fp8:zero", "takes group=N, residual=N, head, each once and N at least 1: 'zero' is none"),
        ("int8:group=4", "between 4 channels, but a value has 10: use a group of 1, 2, 5, 10, 64, or head"),
        ("int8:group=32", "between 32 channels"),
    ],
)
def test_a_wrong_spec_is_refused(spec, said):
    with pytest.raises(UsageError) as caught:
        make_model(PRIMES).new_cache(spec)
    assert said in str(caught.value)


def test_groups_that_do_not_divide_are_refused_and_heads_never():
    wide = replace(PRIMES, d_head=80, layers=(LayerKind(),) * 2)
    ops = make_ops(get_backend("numpy"), "float32")
    with pytest.raises(
        UsageError, match=r"between 64 channels, but a value has 80: use a group of 1, .*40, 80, or head"
    ):
        new_cache("int8", wide, ops)
    for spec in ("int8:group=40", "int8:head", "int4:group=3,head"):
        assert new_cache(spec, wide, ops).spec == spec
    assert Options().channels(32) == 32
    assert Options().channels(128) == 64
    assert Options(group=16).channels(128) == 16
    assert Options(head=True).channels(128) == 128


def test_int4_needs_even_heads():
    odd = replace(PRIMES, d_head=5, layers=(LayerKind(),) * 2)
    ops = make_ops(get_backend("numpy"), "float32")
    with pytest.raises(UsageError, match="keys and values need even sizes, got 5 and 5"):
        new_cache("int4", odd, ops)
    assert new_cache("int8", odd, ops).spec == "int8"
    with pytest.raises(UsageError, match="got 7 and 8"):
        new_cache("int4", latent("cached_expanded"), ops)


def test_a_library_without_small_floats_is_refused_by_name(monkeypatch):
    strict = make_ops(open_strict(), "float32")
    with pytest.raises(
        UsageError, match="int8 stores its scales in float16, which the backend strict does not support"
    ):
        new_cache("int8", PRIMES, strict)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for backend in ("numpy", "exact"):
        ops = make_ops(get_backend(backend), "float32")
        with pytest.raises(UsageError, match=rf'float8_e4m3fn, which the backend {backend} .*"\.\[quant\]"'):
            new_cache("fp8", PRIMES, ops)
        assert new_cache("int8", PRIMES, ops).spec == "int8"


def test_ml_dtypes_is_imported_by_an_fp8_cache_and_nothing_else():
    pytest.importorskip("ml_dtypes")
    source = (
        "import sys, kvsim; m = kvsim.load('demo'); m.new_cache('int8'); m([1, 2], m.new_cache('int4'));"
        "early = 'ml_dtypes' in sys.modules; m.new_cache('fp8'); print(early, 'ml_dtypes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# What is quantised, and when


def test_how_many_rows():
    """4,096 rows: 62 quantised groups and 128 exact rows."""
    assert [Options().quantised(n) for n in (0, 1, 128, 191, 192, 255, 256, 4096)] == [0, 0, 0, 0, 64, 64, 128, 3968]
    for group, residual in ((1, 1), (2, 3), (3, 2), (64, 128), (5, 64)):
        for seen in range(300):
            assert Options(group, residual).quantised(seen) == count_quantised(seen, group, residual)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40)
@given(st.data())
def test_old_rows_are_plain_pythons_and_new_ones_are_exact(spec, dtype, data):
    """For any split into steps: each step reads earlier rows quantised and its own exact."""
    needs(spec)
    count = data.draw(st.integers(1, 20))
    shape = data.draw(st.sampled_from([Shape(2, 4, 6), Shape(1, 6, 2)]))
    made = rows(shape, count, data.draw(st.integers(0, 99)), dtype)
    layer, sizes = layer_of(spec, shape, dtype), data.draw(cuts(count))
    views = feed(layer, made, sizes)
    for size, view, (before, stop) in zip(sizes, views, pairwise(np.cumsum([0, *sizes])), strict=True):
        q = count_quantised(before, 2, 3)
        assert (view.key_pos, view.query_pos) == (Span(0, stop), Span(stop - size, stop))
        expected = expected_rows(spec, shape, made, q)
        for shown, x, (*_, read) in zip((view.keys, view.values), made, expected, strict=True):
            assert shown.dtype == dtype
            assert np.array_equal(shown, np.concatenate([read.astype(dtype), x[:, q:stop]], axis=1))
    q = count_quantised(count, 2, 3)
    assert (layer.rows, layer.quantised) == (count, q)
    expected = expected_rows(spec, shape, made, q)
    for held, x, packed, (stored, scale, zero, read) in zip(
        (layer.keys, layer.values), made, layer._packed, expected, strict=True
    ):
        assert np.array_equal(np.ascontiguousarray(packed.payload).view(np.uint8), stored)
        assert np.array_equal(packed.scale, scale)
        assert zero is None or np.array_equal(packed.zero, zero)
        assert np.array_equal(held, np.concatenate([read.astype(dtype), x[:, q:]], axis=1))


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_is_quantised_twice(spec, monkeypatch):
    """Quantised bytes never change, and every row is quantised once, from its exact numbers."""
    needs(spec)
    shape, seen = Shape(2, 4, 6), []
    quantise = quantised.quantise

    def watched(ops, code, groups, x):
        seen.append(np.array(x))
        return quantise(ops, code, groups, x)

    monkeypatch.setattr(quantised, "quantise", watched)
    made = rows(shape, 40, dtype="float16")
    layer = layer_of(spec, shape, "float16")
    before = layer._packed
    for start, size in enumerate([1] * 12 + [7, 1, 9, 1, 1, 3, 6]):
        feed(layer, made, [size], layer.rows)
        for old, new in zip(before, layer._packed, strict=True):
            for table, longer in zip(old, new, strict=True):
                assert table is None or longer[:, : table.shape[1]].tobytes() == table.tobytes(), start
        before = layer._packed
    assert layer.rows == 40
    for x, parts in ((made[0], seen[::2]), (made[1], seen[1::2])):
        assert np.array_equal(np.concatenate(parts, axis=1), x[:, :36])


def test_a_step_that_fits_the_residual_is_exact_and_one_that_does_not_is_not():
    model = make_model(PRIMES)
    whole = model(IDS)
    for residual, exact in ((24, True), (23, True), (22, True), (21, False)):
        cache = model.new_cache(f"int4:group=2,residual={residual}")
        model(IDS[:23], cache)
        assert (cache.layers[0].quantised > 0) != exact
        same = np.abs(model(IDS[23:], cache)[0] - whole[23]).max() <= CLOSE["float64"] * np.abs(whole).max()
        assert same == exact


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[2], SPECS[4]])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_rows_rounded_by_plain_python(name, spec):
    """The same logits as a `dynamic` cache whose old rows the scalar quantiser overwrites after each step."""
    needs(spec)
    config = CONFIGS[name]
    model = make_model(config)
    cache, plain = model.new_cache(spec), model.new_cache("dynamic")
    done = [0] * len(config.layers)
    for sizes in ((0, 9), (9, 10), (10, 11), (11, 17), (17, 24)):
        got, wanted = model(IDS[slice(*sizes)], cache), model(IDS[slice(*sizes)], plain)
        assert np.abs(got - wanted).max() <= CLOSE["float64"] * np.abs(wanted).max()
        for i, layer in enumerate(plain.layers):
            if isinstance(layer, WindowLayer):
                continue
            old = slice(done[i], count_quantised(sizes[1], 2, 3))
            pair = [x[:, old, :].copy() for x in (layer._keys, layer._values)]
            for x, (*_, read) in zip(
                (layer._keys, layer._values), expected_rows(spec, layer.shape, pair, None), strict=True
            ):
                x[:, old, :] = read
            done[i] = old.stop
    full = model(IDS)
    assert np.abs(got - full[17:]).max() > 1e-9 * np.abs(full).max()  # rounding is there to be seen


def test_layers_with_a_window_keep_it():
    model = make_model(CONFIGS["windowed"])
    cache = model.new_cache("int8")
    assert [type(layer) for layer in cache.layers] == [Int8Layer, WindowLayer]
    assert not cache.lossless
    windows = replace(PRIMES, d_head=7, layers=(LayerKind(window=4),) * 2)
    cache = make_model(windows).new_cache("int4")  # whose layers are all WindowLayers
    assert cache.lossless
    assert {type(layer) for layer in cache.layers} == {WindowLayer}
