"""Promise 2: every split of the ids into chunks gives the same logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import CLOSE, GPT2_LIKE, PRIMES, configs, cuts, make_model


def feed(model, cache, ids, sizes):
    """Logits [T, V] of ids fed in chunks of `sizes`."""
    rows, start = [], 0
    for size in sizes:
        rows.append(model(ids[start : start + size], cache))
        start += size
    return np.concatenate(rows)


@settings(max_examples=150)
@given(config=configs(), seed=st.integers(0, 5), data=st.data(), spec=st.sampled_from(["dynamic", "static:17"]))
def test_any_split_of_any_model(config, seed, data, spec):
    model = make_model(config, "float64", seed)
    length = data.draw(st.integers(1, 17))
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=length, max_size=length))
    sizes = data.draw(cuts(length))
    whole = model(ids)
    split = feed(model, model.new_cache(spec), ids, sizes)
    assert np.abs(split - whole).max() <= CLOSE["float64"] * np.abs(whole).max()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("config", [PRIMES, GPT2_LIKE], ids=["rope", "learned"])
def test_both_dtypes(config, dtype):
    model = make_model(config, dtype)
    ids = [int(i) for i in np.random.default_rng(3).integers(0, config.vocab_size, 24)]
    whole = model(ids)
    assert whole.dtype == dtype
    for sizes in ([1] * 24, [23, 1], [8, 8, 8], [5, 1, 18]):
        split = feed(model, model.new_cache(), ids, sizes)
        assert np.abs(split - whole).max() <= CLOSE[dtype] * np.abs(whole).max()


@settings(max_examples=60)
@given(config=configs(), data=st.data())
def test_a_batch_equals_its_sequences(config, data):
    """Promise 9: several sequences concatenated without padding, each with its own cache."""
    model = make_model(config)
    token = st.integers(0, config.vocab_size - 1)
    pasts = data.draw(st.lists(st.lists(token, max_size=6), min_size=1, max_size=4))
    news = [data.draw(st.lists(token, min_size=1, max_size=6)) for _ in pasts]
    caches = [model.new_cache() for _ in pasts]
    for past, cache in zip(pasts, caches, strict=True):
        if past:
            model(past, cache)
    together = model.batch(list(zip(news, caches, strict=True)))
    for past, new, logits in zip(pasts, news, together, strict=True):
        alone = model(past + new)[len(past) :]
        assert logits.shape == alone.shape
        assert np.abs(logits - alone).max() <= CLOSE["float64"] * np.abs(alone).max()


def test_logits_last_is_the_last_row():
    model = make_model(PRIMES)
    pairs = [([1, 2, 3], None), ([4], None), ([5, 6], None)]
    for whole, last in zip(model.batch(pairs), model.batch(pairs, logits="last"), strict=True):
        assert last.shape == (1, PRIMES.vocab_size)
        assert np.abs(last - whole[-1:]).max() <= CLOSE["float64"] * np.abs(whole).max()


def test_no_later_token_changes_an_earlier_row():
    model = make_model(PRIMES)
    assert np.array_equal(model([1, 2, 3, 4])[:3], model([1, 2, 3, 99])[:3])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_product_is_in_the_requested_dtype(dtype):
    """One array of another dtype would promote every product after it."""
    model = make_model(PRIMES, dtype)
    seen_types = set()
    matmul = model.ops.xp.matmul

    class Watching:
        def __getattr__(self, name):
            return getattr(np, name)

        def matmul(self, a, b):
            seen_types.update((a.dtype.name, b.dtype.name))
            return matmul(a, b)

    model.ops.xp, before = Watching(), model.ops.xp
    try:
        cache = model.new_cache()
        model([1, 2, 3], cache)
        model([4], cache)
    finally:
        model.ops.xp = before
    assert seen_types == {dtype}
