"""`paged:B`: logits of a run without a cache for any split and any order of blocks; places of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.config import BY_LENGTH
from kvsim.doctor.against_numpy import ALLOWED, IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.spans import Span
from tests.arrays.runs import ZOO, backend_of
from tests.caches.paged.runs import CONFIGS, TEXT, close, every_cut, feed, rows_of, scatter
from tests.models import PRIMES, configs, cuts, make_model


def test_its_name():
    assert make_model(PRIMES).new_cache("paged:16").spec == "paged:16"
    for wrong in ("paged", "paged:", "paged:0", "paged:-1", "paged:1.5"):
        with pytest.raises(UsageError, match="needs its size in tokens, at least 1, as in paged:16"):
            make_model(PRIMES).new_cache(wrong)
    huge = make_model(PRIMES).new_cache("paged:1000000000000000")
    with pytest.raises(UsageError, match="more than can be allocated"):
        make_model(PRIMES)([1], huge)
    assert (huge.seen, huge.pool.held) == (0, 0)


# The same logits


@pytest.mark.parametrize("size", [1, 2, 3, 16])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_cut(name, size):
    model, ids = make_model(CONFIGS[name]), TEXT[:6]
    whole = model(ids)
    for sizes in every_cut(len(ids)):
        assert close(feed(model, model.new_cache(f"paged:{size}"), ids, sizes), whole)
        pool = scatter(model.new_pool(f"paged:{size}", blocks=6))
        assert close(feed(model, pool.new_cache(), ids, sizes), whole)


@pytest.mark.parametrize(("name", "dtype"), [
    *((name, "float32") for name in ("llama", "gemma2", "deepseek_v2", "bloom", "t5")),
    ("llama", "float64"), ("llama", "float16"),
])  # fmt: skip
def test_every_cut_bit_for_bit(name, dtype):
    """Contiguous and scattered blocks, on the backend with a fixed order of sums; copies of blocks in each dtype."""
    found = next(key for key in ZOO if key.startswith(name))
    model, source, ids = make(ZOO[found], "exact", dtype), source_of(ZOO[found]), IDS[:5]
    whole = model(ids, **source)
    for sizes in every_cut(len(ids)):
        for cache in (model.new_cache("paged:2"), scatter(model.new_pool("paged:4", blocks=5)).new_cache()):
            got = feed(model, cache, ids, sizes, **source)
            assert (got.dtype, got.tobytes()) == (whole.dtype, whole.tobytes())


@pytest.mark.parametrize("name", ZOO)
def test_every_family(name):
    """Against a run without a cache; where frequencies depend on the length, against `dynamic` with the same split."""
    model, source = make(ZOO[name], "numpy", "float64"), source_of(ZOO[name])
    by_length = any(kind.rope and kind.rope.kind in BY_LENGTH for kind in ZOO[name].layers)
    whole = model(IDS, **source)
    for sizes in ((5, 1, 1, 5), (1,) * 12, (11, 1)):
        wanted = feed(model, model.new_cache("dynamic"), IDS, sizes, **source) if by_length else whole
        for cache in (model.new_cache("paged:5"), scatter(model.new_pool("paged:2", blocks=8)).new_cache()):
            assert close(feed(model, cache, IDS, sizes, **source), wanted)


@settings(max_examples=100)
@given(config=configs(), seed=st.integers(0, 5), data=st.data(), size=st.sampled_from([1, 2, 5, 16]))
def test_any_cut_of_any_model(config, seed, data, size):
    model = make_model(config, "float64", seed)
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=17))
    sizes = data.draw(cuts(len(ids)))
    pool = scatter(model.new_pool(f"paged:{size}", blocks=17), seed)
    for cache in (model.new_cache(f"paged:{size}"), pool.new_cache()):
        assert close(feed(model, cache, ids, sizes), model(ids))


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", ["rope", "latent", "windows"])
@pytest.mark.parametrize("backend", ["exact", "strict", pytest.param("torch", marks=pytest.mark.dev)])
def test_backends(name, backend, dtype):
    """Chunks, a fork, a copy on write, a crop and a reused prefix give NumPy's logits."""

    def run(backend, dtype):
        model = make(CONFIGS[name], backend_of(backend), dtype)
        pool = scatter(model.new_pool("paged:2", blocks=40))
        cache, found = pool.new_cache(), pool.new_cache()
        parts = [feed(model, cache, TEXT, (3, 1, 4))]
        fork = cache.fork()
        cache.crop(5)
        parts += [feed(model, cache, TEXT[5:], (2, 4)), feed(model, fork, TEXT[8:], (3,))]
        assert pool.reuse(found, TEXT) == 10
        return np.concatenate([*parts, feed(model, found, TEXT[10:], (1,))])

    got, wanted = run(backend, dtype), run("numpy", "float64")
    assert got.dtype == dtype
    assert np.abs(got - wanted).max() <= ALLOWED[dtype] * np.abs(wanted).max()


@pytest.mark.parametrize("backend", ["numpy", "meta"])
@pytest.mark.parametrize("name", CONFIGS)
def test_its_products_are_those_of_dynamic(name, backend):
    """No other row is read, from contiguous or scattered blocks."""
    model = make(CONFIGS[name], backend, "float32")
    events = []
    for cache in (
        model.new_cache("dynamic"),
        model.new_cache("paged:3"),
        scatter(model.new_pool("paged:3", blocks=9)).new_cache(),
    ):
        with model.count() as ledger:
            for ids in (TEXT[:5], TEXT[5:6], TEXT[6:]):
                model(ids, cache)
        events.append(ledger.events)
    assert events[0] == events[1] == events[2]


# Places of rows


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_stand_where_the_table_says(name):
    model = make(CONFIGS[name], "exact", "float64")
    dynamic = model.new_cache("static:16")  # all rows, of layers with a window too
    paged = scatter(model.new_pool("paged:3", blocks=7)).new_cache()
    for cache in (dynamic, paged):
        feed(model, cache, TEXT, (4, 1, 6))
    assert len(paged.table.blocks) == 4
    assert not paged.table.runs_from(0)
    for i, layer in enumerate(dynamic.layers):
        for got, wanted in zip(rows_of(paged, i), (layer.keys, layer.values), strict=True):
            assert np.array_equal(got, wanted)
        window = model.config.layers[i].window
        kept = layer.keys if window is None else layer.keys[:, 1 - window :]
        assert np.array_equal(paged.layers[i].keys, kept)
        assert paged.layers[i].values.shape[1] == kept.shape[1]


def test_one_run_is_read_without_a_copy():
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=9)
    for cache in (model.new_cache("paged:4"), pool.new_cache()):
        feed(model, cache, TEXT, (3, 6, 1, 1))
        assert cache.table.blocks == [0, 1, 2]
        for layer in cache.layers:
            assert np.shares_memory(layer.keys, layer.stored.keys)
            assert np.shares_memory(layer.values, layer.stored.values)
    alone = pool.new_cache()  # beside the first: still in one piece
    feed(model, alone, TEXT, (3, 6, 1, 1))
    assert np.shares_memory(alone.layers[0].keys, alone.layers[0].stored.keys)


def test_where_a_run_begins():
    """The table's runs equal those computed from its blocks."""
    generator = np.random.default_rng(0)
    pool = scatter(make_model(PRIMES).new_pool("paged:2", blocks=64))
    caches = [pool.new_cache() for _ in range(3)]
    for _ in range(500):
        cache = caches[generator.integers(3)]
        if generator.integers(3) == 0:
            cache.seen = int(generator.integers(cache.seen + 1))
            cache.table.crop(cache.seen)
        elif pool.free > 8:
            stop = cache.seen + int(generator.integers(1, 9))
            cache.table.prepare(Span(cache.seen, stop))
            cache.seen = stop
        blocks = cache.table.blocks
        first = next(
            (i for i in range(len(blocks)) if blocks[i:] == [*range(blocks[i], blocks[i] + len(blocks) - i)]), 0
        )
        assert cache.table.runs_from(first)
        assert first == 0 or not cache.table.runs_from(first - 1)


def test_a_copy_may_join_the_run_before():
    """Blocks 0 and 2, the second shared; its copy is 1."""
    model = make_model(PRIMES)
    pool = model.new_pool("paged:4", blocks=4)
    cache, other = pool.new_cache(), pool.new_cache()
    for ids, one in ((TEXT[:4], cache), ([1], other), (TEXT[4:6], cache)):
        model(ids, one)
    other.clear()
    fork = cache.fork()
    model([1], fork)
    assert (cache.table.blocks, fork.table.blocks) == ([0, 2], [0, 1])
    assert fork.table.runs_from(0)
    assert not cache.table.runs_from(0)


def test_a_step_writes_its_own_rows_only():
    model = make_model(PRIMES)
    cache = model.new_pool("paged:4", blocks=4).new_cache()
    for stored in cache.pool.layers:
        stored.keys[...] = stored.values[...] = np.nan
    model(TEXT[:6], cache)
    before = [(stored.keys.copy(), stored.values.copy()) for stored in cache.pool.layers]
    model(TEXT[6:7], cache)
    for stored, (keys, values) in zip(cache.pool.layers, before, strict=True):
        for now, then in ((stored.keys, keys), (stored.values, values)):
            assert np.isfinite(now[:, :7]).all()
            assert np.isnan(now[:, 7:]).all()
            assert np.array_equal(now[:, :6], then[:, :6])


def test_a_private_pool_doubles():
    model = make_model(PRIMES)
    cache, sizes = model.new_cache("paged:2"), []
    for token in range(17):
        model([token], cache)
        sizes.append(cache.layers[1].stored.blocks)
    assert sizes == [1, 1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 16]
    assert close(model([17], cache), model(list(range(18)))[17:])
