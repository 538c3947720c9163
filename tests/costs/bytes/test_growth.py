"""Growth of a cache: equal to the bytes of `kvsim memory`, and searches for what fits equal to trying every length."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvsim.caches.base import layer_shape
from kvsim.config import LayerKind
from kvsim.costs.bytes.growth import make_growth
from kvsim.costs.bytes.memory import CACHE_DTYPES, count_rows, measure_held, read_format
from kvsim.errors import UsageError
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs

HYBRID = replace(
    PRIMES, n_layers=4, layers=(LayerKind(window=5), LayerKind(), LayerKind(window=5), LayerKind(window=12))
)


def growth_of(config, cache_dtype, dtype="float16", source=0):
    return make_growth(count_rows(config), read_format(cache_dtype, dtype, layer_shape(config)), source)


def held_of(config, cache_dtype, dtype, tokens, source):
    """The logical bytes that `kvsim memory` counts."""
    kept = read_format(cache_dtype, dtype, layer_shape(config))
    return measure_held(count_rows(config), kept, tokens, source).logical


@settings(max_examples=150)
@given(
    config=configs(), cache_dtype=st.sampled_from(CACHE_DTYPES), tokens=st.integers(0, 3_000), extra=st.integers(0, 50)
)
def test_growth_equals_measured_memory(config, cache_dtype, tokens, extra):
    try:
        growth = growth_of(config, cache_dtype)
    except UsageError:
        assume(False)
    held = [held_of(config, cache_dtype, "float16", n, 0) for n in range(max(1, tokens - 200), tokens + 1)]
    assert not held or growth.held(tokens) == held[-1]
    assert growth.peak(tokens) == max([growth.held(n) for n in range(tokens + 1)])


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("cache_dtype", ["float32", "int8"])
def test_growth_of_every_family(name, cache_dtype):
    config = ZOO[name]
    source = 0 if config.encoder is None else 9
    for tokens in (1, 5, 191, 192, 12_345):
        assert growth_of(config, cache_dtype, source=source).held(tokens) == held_of(
            config, cache_dtype, "float16", tokens, source
        )


def search(config, cache_dtype, room, most, source=0):
    """The tokens that fit, tried one by one; None: all of `most`."""
    for tokens in range(1, most + 1):
        if held_of(config, cache_dtype, "float16", tokens, source) > room:
            return tokens - 1
    return None


@settings(max_examples=120)
@given(
    config=st.one_of(st.just(HYBRID), configs()),
    cache_dtype=st.sampled_from(["float16", "float64", "int8", "int4:zero", "fp8"]),
    rows=st.integers(0, 700),
    slack=st.integers(-30, 30),
)
def test_tokens_by_brute_force(config, cache_dtype, rows, slack):
    """Hybrid, quantised and latent models: with room close to the bytes of some length."""
    try:
        growth = growth_of(config, cache_dtype)
    except UsageError:
        assume(False)
    room = growth.held(rows) + slack
    found, expected = growth.tokens(room), search(config, cache_dtype, room, 1_500)
    if expected is None:  # beyond the search, or unlimited
        assert found is None or found >= 1_500
        assert (found is None) == (growth.full == 0)
    else:
        assert found == expected
    if room >= 0:
        each = max(held_of(config, cache_dtype, "float16", n, 0) for n in range(1, 301))
        assert growth.sequences(300, room) == (room // each if each else None)


def test_the_peak_of_a_quantised_cache_must_fit():
    """It shrinks at 192 tokens, so 191 must fit too."""
    config = replace(PRIMES, d_head=64)
    growth = growth_of(config, "int8")
    assert growth.held(192) < growth.held(191) == growth.peak(192)
    assert growth.tokens(growth.held(191) - 1) == 190
    assert growth.tokens(growth.held(191)) > 192


def test_rows_of_a_source_are_fixed():
    config = next(config for config in ZOO.values() if config.encoder is not None)
    growth = growth_of(config, "float16", source=9)
    assert growth.fixed == held_of(config, "float16", "float16", 0, 9) > 0
    for room in (growth.fixed - 1, growth.fixed, growth.fixed + growth.full, growth.fixed + 7 * growth.full - 1):
        assert growth.tokens(room) == max(0, (room - growth.fixed) // growth.full)
