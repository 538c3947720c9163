"""The exact backend: cached equals uncached bit for bit, for any split into chunks, in three dtypes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.arrays import exact
from kvsim.cli import run as command
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.transformer.rotary import depends_on_length
from tests.arrays.runs import FIRST_OF_FAMILY, ZOO
from tests.marks import case
from tests.models import configs, cuts, demo

DTYPES = ["float64", "float32", "float16"]


def bits(x):
    return x.shape, x.dtype, x.tobytes()


def in_chunks(model, ids, sizes, spec="dynamic", **source):
    cache, parts, start = model.new_cache(spec), [], 0
    for size in sizes:
        parts.append(model(ids[start : start + size], cache, **source))
        start += size
    return np.concatenate(parts)


# Every model in float32 (without the extra dev the first of each family); in the other dtypes, whose splits are the
# same code, one for each kind of attention and norm.
IN_DTYPES = [
    *(case(name, "float32", id=f"{name}-float32", dev=name not in FIRST_OF_FAMILY) for name in ZOO),
    *(case(name, dtype, id=f"{name}-{dtype}", dev=False)
      for name in ("llama", "gemma2", "deepseek_v2", "gpt_oss", "bloom", "t5", "whisper")
      for dtype in ("float64", "float16")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), IN_DTYPES)
def test_every_family_bit_for_bit(name, dtype):
    """Five splits of twelve tokens; models whose frequencies depend on the length are left out."""
    config = ZOO[name]
    if any(kind.rope and depends_on_length(kind.rope) for kind in config.layers):
        return
    model, source = make(config, "exact", dtype), source_of(config)
    full = bits(model(IDS, **source))
    for sizes in ((1,) * 12, (12,), (5, 1, 1, 5), (11, 1), (1, 11)):
        assert bits(in_chunks(model, IDS, sizes, **source)) == full


@settings(max_examples=60)
@given(config=configs(), data=st.data())
def test_any_model_any_split(config, data):
    dtype, seed = data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(0, 3))
    model = Model(config, random_weights(config, seed), backend="exact", dtype=dtype)
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=9))
    sizes = data.draw(cuts(len(ids)))
    spec = data.draw(st.sampled_from(["dynamic", "static:9", "none"]))
    if spec == "none":
        cache = model.new_cache("none")
        last = [model(ids[: i + 1], cache)[-1:, :] for i in range(len(ids))]
        assert bits(np.concatenate(last)) == bits(model(ids))
    else:
        assert bits(in_chunks(model, ids, sizes, spec)) == bits(model(ids))


def test_on_numpy_the_bits_differ():
    """Otherwise the tests above would show nothing about the order of additions."""
    ids = demo("float32").tokenizer.encode("What is KV caching?")
    assert bits(in_chunks(demo("float32"), ids, [1] * len(ids))) != bits(demo("float32")(ids))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_start_at_zero_and_go_from_left_to_right(dtype):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(3, 7, 11)).astype(dtype), generator.normal(size=(3, 11, 5)).astype(dtype)
    wide = np.float32 if dtype == "float16" else np.dtype(dtype).type
    got = exact.matmul(a, b)
    assert got.dtype == dtype
    for i, row, column in np.ndindex(3, 7, 5):
        total = wide(0)
        for k in range(11):
            total = wide(total + wide(wide(a[i, row, k]) * wide(b[i, k, column])))
        assert got[i, row, column] == np.dtype(dtype).type(total)
    total = np.zeros((7, 11), wide)
    for i in range(3):
        total = total + a[i]
    assert bits(exact.add_up(a, axis=0)) == bits(total.astype(dtype))
    assert bits(exact.add_up(a, axis=(1, 2), keepdims=True)) == bits(
        exact.add_up(a.reshape(3, 77), axis=1).reshape(3, 1, 1)
    )
    assert exact.mean(a, axis=-1).shape == (3, 7)


def test_padding_with_zeros_changes_no_bit():
    """A pairwise sum would pair the other terms differently."""
    x = np.random.default_rng(1).normal(size=(4, 37)).astype("float32")
    for n in range(1, 9):
        assert bits(exact.add_up(np.pad(x, [(0, 0), (n, 0)]), axis=1)) == bits(exact.add_up(x, axis=1))
        assert bits(exact.add_up(np.pad(x, [(0, 0), (0, n)]), axis=1)) == bits(exact.add_up(x, axis=1))


@pytest.mark.parametrize("name", ["exp", "tanh", "sin", "cos"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_functions_are_independent_of_the_layout(name, dtype):
    """Reversed, strided, one element at a time as scalars and as arrays: the same bits as the whole array."""
    function = getattr(exact.open_backend(None).xp, name)
    x = (2.0 * np.random.default_rng(2).normal(size=1001)).astype(dtype)
    whole = function(x)
    assert bits(function(x[::-1])[::-1].copy()) == bits(whole)
    assert bits(function(x[::3])) == bits(whole[::3].copy())
    assert bits(np.stack([function(x[i]) for i in range(1001)])) == bits(whole)
    assert bits(np.concatenate([function(x[i : i + 1]) for i in range(1001)])) == bits(whole)
    for size in range(2, 20):
        assert bits(function(x[-size:])) == bits(whole[-size:])


def test_trace_reports_identical_logits(capsys):
    assert command(["trace", "中华人民", "--backend", "exact", "--lang", "en"]) == 0
    streams = capsys.readouterr()
    assert "The logits of both runs are identical, bit for bit. KV cache 3,584 B." in streams.out
    assert streams.err == ""
    assert command(["trace", "中华人民", "--backend", "numpy", "--lang", "en"]) == 0
    output = capsys.readouterr().out
    assert "differ by at most" in output
    assert "The difference is rounding: a BLAS adds the products of one row in another order" in output
    assert command(["trace", "中华人民", "--lang", "en"]) == 0
    assert "BLAS" not in capsys.readouterr().out


def test_on_exact_any_difference_is_a_failure(monkeypatch, capsys):
    """A cache whose keys differ in their last bit."""
    from kvsim.caches.buffer import BufferLayer

    update = BufferLayer.update

    def changed(self, keys, values, pos, encode):
        return update(self, np.nextafter(keys, np.inf, dtype=keys.dtype), values, pos, encode)

    monkeypatch.setattr(BufferLayer, "update", changed)
    trace = kvsim.trace("中华人民", backend="exact")
    assert not trace.identical
    assert not trace.agrees
    assert command(["trace", "中华人民", "--backend", "exact", "--lang", "en"]) == 1
    assert "CHECK FAILED" in capsys.readouterr().out
    assert replace(trace, fixed_order=False).allowed_diff == 0.0
