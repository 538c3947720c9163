"""FastOps against the plain Ops: same numbers, same products, and no watched array is overwritten."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.arrays import get_backend
from kvsim.arrays.host import usable_processors
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.fast import numpy_ops as fast_ops
from kvsim.fast.numpy_ops import FastOps
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.ops import Ops
from kvsim.spans import Span, View
from kvsim.transformer.attention import in_blocks
from tests.arrays.runs import ZOO
from tests.models import CLOSE, GPT2_LIKE, configs

PLAIN = get_backend("numpy")._replace(in_place=False)
PLACES = ("layers.*", "embedding", "final")


def both(config, dtype, seed=0, attention="square"):
    weights = random_weights(config, seed)
    fast = Model(config, weights, backend="numpy", dtype=dtype, attention=attention)
    plain = Model(config, weights, backend=PLAIN, dtype=dtype)
    assert type(fast.ops) is FastOps
    assert type(plain.ops) is Ops
    return fast, plain


def close(got, wanted, dtype):
    finite = np.isfinite(wanted)
    assert got.dtype == wanted.dtype
    assert np.array_equal(np.isfinite(got), finite)
    largest = np.abs(wanted[finite]).max(initial=1e-30)
    return np.abs(got[finite] - wanted[finite]).max(initial=0.0) <= CLOSE[dtype] * largest


@settings(max_examples=60)
@given(config=configs(), data=st.data())
def test_any_model_has_the_same_logits_and_events(config, data):
    dtype, blocks = data.draw(st.sampled_from(["float64", "float32"])), data.draw(st.sampled_from([64, 1 << 18]))
    fast, plain = both(config, dtype, data.draw(st.integers(0, 3)))
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_ops, "BLOCK_BYTES", blocks)  # several blocks, however small the model
        patch.setattr(fast_ops, "THREAD_BYTES", 0)
        patch.setattr(fast_ops, "count_threads", lambda: data.draw(st.sampled_from([1, 2])))
        with fast.count() as ledger:
            got = fast(ids)
    with plain.count() as wanted:
        expected = plain(ids)
    assert close(got, expected, dtype)
    assert ledger.events == wanted.events


@pytest.mark.parametrize("name", ZOO)
def test_watched_arrays_are_not_overwritten(name):
    """Watched arrays equal those of the plain operations, although arrays that are not watched are reused in place."""
    config = ZOO[name]
    fast, plain = both(config, "float64")
    with fast.watch(*PLACES) as seen:
        first = fast(IDS, **source_of(config))
    with plain.watch(*PLACES) as wanted:
        plain(IDS, **source_of(config))
    assert set(seen) == set(wanted)
    for place in wanted:
        assert close(seen[place], wanted[place], "float64"), place
    assert np.array_equal(first, fast(IDS, **source_of(config))) or close(
        fast(IDS, **source_of(config)), first, "float64"
    )


@pytest.mark.parametrize("name", ZOO)
def test_weights_caches_and_inputs_are_never_written(name):
    config = ZOO[name]
    model = make(config, "numpy", "float64")
    source = source_of(config)
    first = model(IDS, **source)
    cache = model.new_cache("dynamic")
    model(IDS[:5], cache, **source)
    kept = [(layer.keys.copy(), layer.values.copy()) for layer in cache.layers]
    model(IDS[5:6], cache)
    for layer, (keys, values) in zip(cache.layers, kept, strict=True):
        common = min(layer.keys.shape[1] - 1, keys.shape[1])
        assert np.array_equal(layer.keys[:, -1 - common : -1, :], keys[:, keys.shape[1] - common :, :])
        assert np.array_equal(layer.values[:, -1 - common : -1, :], values[:, values.shape[1] - common :, :])
    assert np.array_equal(model(IDS, **source), first)


# Products, and weights changed after construction


def count_products(model, ids):
    """(calls of xp.matmul, events recorded) of one call of the model."""
    calls, product = [], model.ops.xp.matmul
    with pytest.MonkeyPatch.context() as patch, model.count() as ledger:
        patch.setattr(model.ops, "xp", SimpleNamespace(**vars(model.ops.xp)))
        model.ops.xp.matmul = lambda a, b: calls.append(1) or product(a, b)
        model(ids)
    return len(calls), len(ledger.events)


def test_every_product_records_one_event():
    """The demo model: two layers of nine products, and the head."""
    model = kvsim.load("demo")
    assert count_products(model, [5]) == (19, 19)
    assert count_products(model, [5, 6, 7]) == (19, 19)
    assert count_products(Model(model.config, model.weights, backend=PLAIN), [5]) == (19, 19)


def test_weights_that_were_replaced_or_changed_are_used():
    """No copy of a weight is kept."""
    model, other = kvsim.load("demo"), kvsim.load("demo")
    first = model([5, 6])
    layer = model.weights.layers[0]
    key = replace(layer.attention.key, weight=layer.attention.key.weight * 2.0)
    layers = (replace(layer, attention=replace(layer.attention, key=key)), *model.weights.layers[1:])
    model.weights = replace(model.weights, layers=layers)
    other.weights.layers[0].attention.key.weight[...] *= 2.0
    assert np.array_equal(model([5, 6]), other([5, 6]))
    assert not close(model([5, 6]), first, "float32")


def test_biases_that_were_replaced_or_changed_are_used():
    weights = random_weights(GPT2_LIKE)
    model, plain = (
        Model(GPT2_LIKE, weights, backend="numpy", dtype="float64"),
        Model(GPT2_LIKE, weights, backend=PLAIN, dtype="float64"),
    )
    first = model([3, 4])
    layer = weights.layers[0]
    layer.attention.key.bias[...] *= 3.0  # the models' own arrays: construction copied none
    layer.attention.value.bias[...] += 1.0
    changed = model([3, 4])
    assert not close(changed, first, "float64")
    assert close(changed, plain([3, 4]), "float64")
    value = replace(layer.attention.value, bias=layer.attention.value.bias * 2.0)
    layers = (replace(layer, attention=replace(layer.attention, value=value)), *weights.layers[1:])
    model.weights = plain.weights = replace(weights, layers=layers)
    assert not close(model([3, 4]), changed, "float64")
    assert close(model([3, 4]), plain([3, 4]), "float64")


# Attention in blocks of queries


@given(
    start=st.integers(0, 20), rows=st.integers(1, 30), window=st.none() | st.integers(1, 9), size=st.integers(1, 9),
    kept=st.integers(0, 20),
)  # fmt: skip
def test_blocks_omit_only_masked_pairs(start, rows, window, size, kept):
    query, key = Span(start, start + rows), Span(max(0, start - kept), start + rows)
    keys = np.arange(key.start, key.stop)[None, :, None]
    seen = np.zeros((rows, key.size), bool)
    numbered = np.arange(rows)[None, None, :, None]
    for block, part in in_blocks(numbered, View(keys, keys, key, query), window, size):
        queries = slice(block[0, 0, 0, 0], block[0, 0, -1, 0] + 1)
        assert block.shape == (1, 1, queries.stop - queries.start, 1)
        assert part.query_pos == Span(query.start + queries.start, query.start + queries.stop)
        assert part.keys[0, :, 0].tolist() == list(range(part.key_pos.start, part.key_pos.stop))
        assert not seen[queries].any()
        seen[queries, part.key_pos.start - key.start : part.key_pos.stop - key.start] = True
    for i in range(rows):
        for j in range(key.size):
            q, k = query.start + i, key.start + j
            if k <= q and (window is None or k > q - window):
                assert seen[i, j]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ZOO)
def test_blocked_attention_has_the_same_logits_and_fewer_products(name, dtype, monkeypatch):
    config, source = ZOO[name], source_of(ZOO[name])
    blocked, plain = both(config, dtype, attention="blocked")
    blocked.ops.query_block = 4
    with blocked.count() as ledger:
        got = blocked(IDS, **source)
    with plain.count() as wanted:
        expected = plain(IDS, **source)
    assert close(got, expected, dtype)
    assert ledger.useful_macs == wanted.useful_macs
    if config.latent is None:
        assert ledger.macs < wanted.macs
        scores = [event for event in ledger if event.site == "layers.0.scores"]
        assert not [event for event in ledger if event.site == "encoder.layers.0.scores" and event.m != 9]
        assert [event.m for event in scores] == [4, 4, 4]
    cache, parts = blocked.new_cache("dynamic"), []
    for start, stop in ((0, 7), (7, 8), (8, 12)):
        parts.append(blocked(IDS[start:stop], cache, **(source if start == 0 else {})))
    by_length = name in ("llama_dynamic", "llama_longrope", "phi3_longrope")
    assert by_length or close(np.concatenate(parts), expected, dtype)


def test_choosing_the_form_of_attention():
    assert kvsim.load("demo").attention == "square"
    model = kvsim.load("demo", attention="blocked")
    assert model.ops.query_block == 128
    long = list(range(5, 55)) * 3
    with model.count() as ledger:
        logits = model(long)
    whole = kvsim.load("demo")(long)
    assert np.abs(logits - whole).max() <= 1e-5 * np.abs(whole).max()
    assert ledger.by("kind")["scores"].macs == 2 * 4 * 16 * (128 * 128 + 22 * 150)
    with pytest.raises(UsageError, match="unknown attention 'round': use one of square, blocked"):
        kvsim.load("demo", attention="round")


def test_the_number_of_threads(monkeypatch):
    fast_ops.count_threads.cache_clear()
    monkeypatch.setattr(fast_ops.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert fast_ops.count_threads() == 4
    fast_ops.count_threads.cache_clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert fast_ops.count_threads() == 3
    fast_ops.count_threads.cache_clear()
    for text in ("all", "\u00b2", "9" * 5000, "0", "-1", "\udcff", "1e1", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert fast_ops.count_threads() == 4
        fast_ops.count_threads.cache_clear()
    for text in ("2,1", " 2 "):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert fast_ops.count_threads() == 2
        fast_ops.count_threads.cache_clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own_threads():
    """The input is large enough that the parent has started its thread pool before the fork."""
    code = """
import os, kvsim
model = kvsim.load("demo", dtype="float64")
ids = [5 + i % 40 for i in range(700)]
first = model(ids)
if os.fork() == 0:
    os._exit(0 if (model(ids) == first).all() else 1)
print(os.wait()[1])
"""
    if usable_processors() < 2:
        pytest.skip("one processor: no pool of threads")
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.stdout == "0\n"


def test_watching_computes_full_squares():
    model = kvsim.load("demo", attention="blocked")
    with model.watch("layers.0.probs") as seen:
        model(list(range(5, 205)))
    assert seen["layers.0.probs"].shape == (2, 2, 200, 200)
    with pytest.raises(UsageError, match="trace shows the full square"):
        kvsim.trace("中", model=model)
    assert make(ZOO["deepseek_v2"], "numpy", "float32").attention == "square"
    assert Model(ZOO["deepseek_v2"], random_weights(ZOO["deepseek_v2"]), attention="blocked").attention == "square"
