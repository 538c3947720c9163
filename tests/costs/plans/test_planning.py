"""What fits: against searching with the exact bytes of `kvsim memory`, array by array, and figures known by hand."""

from dataclasses import replace
from fractions import Fraction
from math import prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvsim.blueprint import build_weights
from kvsim.caches.base import layer_shape
from kvsim.config import LayerKind
from kvsim.costs.bytes.growth import make_growth
from kvsim.costs.bytes.memory import CACHE_DTYPES, count_rows, measure_held, measure_memory, read_format
from kvsim.costs.bytes.parameters import count_parameters
from kvsim.costs.plans.planning import Setup, find_fits, list_readings, plan
from kvsim.costs.plans.shards import kv_heads_each, measure_weights, shard
from kvsim.costs.public.devices import find_device, read_devices
from kvsim.costs.public.models import find_config, read_catalogue
from kvsim.errors import UsageError
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs

HYBRID = replace(
    PRIMES, n_layers=4, layers=(LayerKind(window=5), LayerKind(), LayerKind(window=5), LayerKind(window=12))
)


def numbers(found):
    return [(fit.tokens, fit.requests) for fit in found.fits]


def test_the_figures_of_the_a10():
    """24·10^9 B, 24 GiB, and what the driver reports: 23,609,475,072 B."""
    found = plan("llama-2-7b-hf", "a10", 4_096, dtype="float16")
    assert [fit.reading for fit in found.fits] == ["gb", "gib", "usable"]
    assert [fit.memory for fit in found.fits] == [24 * 10**9, 24 * 2**30, 23_609_475_072]
    usable = (23_609_475_072 - 13_476_831_232) // 524_288
    assert numbers(found) == [(20_071, 4), (23_446, 5), (usable, usable // 4_096)]
    assert found.setup.weight_bytes == 13_476_831_232
    assert found.request_bytes == 4_096 * 524_288
    assert found.fits[0].spare == 24 * 10**9 - 13_476_831_232 - 4_096 * 524_288


def test_what_is_missing():
    found = plan("llama-2-7b-hf", "t4", 4_096, dtype="float32").fits[0]
    assert (found.tokens, found.requests) == (0, 0)
    assert found.spare == 16 * 10**9 - 4 * 6_738_415_616 - 4_096 * 1_048_576 < 0


# Tokens


@settings(max_examples=60)
@given(
    kv_heads=st.sampled_from([1, 2, 3, 6]),
    layers=st.integers(1, 40),
    budget=st.integers(0, 10**12),
    dtype=st.sampled_from(["float16", "float32"]),
)
def test_tokens_fill_the_budget_and_one_more_does_not(kv_heads, layers, budget, dtype):
    """Full attention: tokens · bytes + weights <= budget < (tokens + 1) · bytes + weights."""
    config = replace(PRIMES, n_kv_heads=kv_heads, n_layers=layers, layers=(LayerKind(),) * layers)
    weights = measure_memory(config, [1], dtype=dtype).weight_bytes
    each = measure_memory(config, [1], dtype=dtype).row_bytes
    assume(budget >= weights)
    device = find_device("a10")._replace(nominal_bytes=budget, usable_bytes=budget)
    fit = find_fits(Setup(config, device, 1, dtype, None), Fraction(1), 7)[-1]
    assert fit.tokens * each + weights <= budget < (fit.tokens + 1) * each + weights
    assert fit.requests == fit.tokens // 7


def growth_of(config, cache_dtype, dtype="float16", source=0):
    return make_growth(count_rows(config), read_format(cache_dtype, dtype, layer_shape(config)), source)


def held_of(config, cache_dtype, dtype, tokens, source):
    """The exact function of `kvsim memory`."""
    kept = read_format(cache_dtype, dtype, layer_shape(config))
    return measure_held(count_rows(config), kept, tokens, source).logical


@settings(max_examples=150)
@given(
    config=configs(), cache_dtype=st.sampled_from(CACHE_DTYPES), tokens=st.integers(0, 3_000), extra=st.integers(0, 50)
)
def test_growth_is_what_memory_counts(config, cache_dtype, tokens, extra):
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
    """The tokens that fit, one more at a time; None: all of `most`."""
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
    """Hybrid, quantised and latent models: a room around what some length takes."""
    try:
        growth = growth_of(config, cache_dtype)
    except UsageError:
        assume(False)
    room = growth.held(rows) + slack
    found, expected = growth.tokens(room), search(config, cache_dtype, room, 1_500)
    if expected is None:  # either longer than the search goes, or for ever
        assert found is None or found >= 1_500
        assert (found is None) == (growth.full == 0)
    else:
        assert found == expected
    if room >= 0:
        each = max(held_of(config, cache_dtype, "float16", n, 0) for n in range(1, 301))
        assert growth.sequences(300, room) == (room // each if each else None)


def test_a_quantised_cache_must_fit_on_its_way():
    """It shrinks at 192 tokens: 191 must fit too."""
    config = replace(PRIMES, d_head=64)
    growth = growth_of(config, "int8")
    assert growth.held(192) < growth.held(191) == growth.peak(192)
    assert growth.tokens(growth.held(191) - 1) == 190
    assert growth.tokens(growth.held(191)) > 192


def test_a_source_takes_its_part():
    config = next(config for config in ZOO.values() if config.encoder is not None)
    growth = growth_of(config, "float16", source=9)
    assert growth.fixed == held_of(config, "float16", "float16", 0, 9) > 0
    for room in (growth.fixed - 1, growth.fixed, growth.fixed + growth.full, growth.fixed + 7 * growth.full - 1):
        assert growth.tokens(room) == max(0, (room - growth.fixed) // growth.full)


def test_windows_in_every_layer_have_no_end():
    found = plan("mistral-7b-v0.1", "a10", 10**12, dtype="float16")
    assert [fit.tokens for fit in found.fits] == [None] * 3
    each = 4_095 * 131_072
    assert found.fits[0].requests == (24 * 10**9 - 2 * 7_241_732_096) // each
    small = find_device("a10")._replace(nominal_bytes=15 * 10**9, usable_bytes=None)
    fit = find_fits(replace(found.setup, device=small), Fraction(1), 10)[0]
    assert fit.tokens == (15 * 10**9 - 2 * 7_241_732_096) // 131_072


# Tensor parallelism


def heads_read(heads, kv_heads, devices, device):
    """The KV heads that a device's query heads read, one by one."""
    own = heads // devices
    return {head // (heads // kv_heads) for head in range(device * own, (device + 1) * own)}


@given(kv_heads=st.integers(1, 12), group=st.integers(1, 8), data=st.data())
def test_kv_heads_of_the_fullest_device(kv_heads, group, data):
    heads = kv_heads * group
    devices = data.draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    sets = [heads_read(heads, kv_heads, devices, device) for device in range(devices)]
    assert kv_heads_each(heads, kv_heads, devices) == max(map(len, sets))
    assert set().union(*sets) == set(range(kv_heads))


def test_a_share_by_hand():
    """Llama-2-70B on 4 devices: every matrix in four parts, norms whole; 2 KV heads of 8; on 16: one each, twice."""
    name, d, ff, vocab = "llama-2-70b-hf", 8_192, 28_672, 32_000
    matrices = 80 * (2 * d * d + 2 * d * 1_024 + 3 * d * ff) + 2 * vocab * d
    norms = (2 * 80 + 1) * d
    found = plan(name, "a100-80gb", 4_096, devices=4)
    assert found.setup.weight_bytes == 2 * (matrices // 4 + norms)
    assert found.request_bytes == 4_096 * 327_680 // 4
    assert found.kv_heads == (8, 2)
    more = plan(name, "a100-80gb", 4_096, devices=16)
    keys_values = 80 * 2 * d * 1_024
    assert more.setup.weight_bytes == 2 * ((matrices - keys_values) // 16 + keys_values // 8 + norms)
    assert more.request_bytes == 4_096 * 327_680 // 8
    assert more.kv_heads == (8, 1)


def test_latents_are_on_every_device():
    one, eight = (plan("deepseek-v3", "h200", 4_096, devices=n, dtype="bfloat16") for n in (1, 8))
    assert one.request_bytes == eight.request_bytes == 4_096 * 70_272
    assert eight.kv_heads == (1, 1)
    assert eight.setup.weight_bytes * 8 > one.setup.weight_bytes > 7 * eight.setup.weight_bytes


@settings(max_examples=100)
@given(config=configs(), data=st.data())
def test_shares_hold_all(config, data):
    """No array is lost: shares of any array, laid together, are at least the whole; one device has it all."""
    devices = data.draw(st.sampled_from([n for n in range(1, config.n_heads + 1) if config.n_heads % n == 0]))
    whole, shares = {}, {}
    build_weights(config, lambda name, shape: whole.update({name: prod(shape)}))
    build_weights(shard(config, devices), lambda name, shape: shares.update({name: prod(shape)}))
    assert whole.keys() == shares.keys()
    for name, count in whole.items():
        assert shares[name] <= count <= devices * shares[name], name
        if "norm" in name and "query_norm" not in name and "key_norm" not in name:
            assert shares[name] == count
    assert measure_weights(shard(config, 1), "float32", "float32") == 4 * count_parameters(config)


def test_heads_that_do_not_split():
    with pytest.raises(UsageError, match="12 heads do not split over 5 devices: use one of 1, 2, 3, 4, 6, 12"):
        plan("gpt2", "a10", 10, devices=5)


# Quantised weights


def test_quantised_weights_by_hand():
    """Llama-2-7B: 32 layers of 4 D·D and 3 D·F in int4 with a scale for 128 inputs; F = 11,008 = 86 · 128."""
    d, ff = 4_096, 11_008
    outputs_inputs = [(d, d)] * 4 + [(ff, d)] * 2 + [(d, ff)]
    for dtype, bits in (("int8", 8), ("int4", 4)):
        layer = sum(n_out * n_in * bits // 8 + n_out * (n_in // 128) * 2 for n_out, n_in in outputs_inputs)
        rest = 2 * (2 * 32_000 * d + 65 * d)
        assert plan("llama-2-7b-hf", "a10", 1, dtype=dtype).setup.weight_bytes == 32 * layer + rest


def test_quantised_weights_whose_rows_do_not_divide():
    """13 inputs of 4 bits are 7 bytes and share one scale; norms, router and head are as they were."""
    arrays = {}
    build_weights(PRIMES, lambda name, shape: arrays.update({name: shape}))
    count = 0
    for name, shape in arrays.items():
        if name.startswith("layers.") and len(shape) == 2:
            nibbles = [-(-shape[1] // 2)] * shape[0]
            scales = [2 * -(-shape[1] // 128)] * shape[0]
            count += sum(nibbles) + sum(scales)
        else:
            count += 2 * prod(shape)
    assert measure_weights(PRIMES, "int4", "float16") == count


# Devices


@pytest.mark.parametrize("name", read_devices())
def test_readings(name):
    device = read_devices()[name]
    readings = list_readings(device)
    assert readings["gib"] * 10**9 == readings["gb"] * 2**30
    assert device.nominal_bytes in (readings["gb"], readings["gib"])
    assert readings["gb"] < 10**12
    assert readings.get("usable") == device.usable_bytes
    assert plan("gpt2", name, 1_024).fits[0].requests > 0  # in a dtype that it has


def test_utilization_is_exact():
    fits = plan("llama-2-7b-hf", "a10", 4_096, utilization=0.9).fits
    assert [fit.budget for fit in fits] == [21_600_000_000, 23_192_823_398, 21_248_527_564]
    assert [fit.requests for fit in fits] == [3, 4, 3]
    assert plan("llama-2-7b-hf", "a10", 4_096, utilization="0.9").fits == fits


@pytest.mark.parametrize("name", read_catalogue())
def test_every_model(name):
    config = find_config(name)[1]
    source = None if config.encoder is None else 100
    found = plan(name, "b200", 2_048, source=source, devices=1)
    memory = measure_memory(name, [2_048], dtype="float16", source=source)
    assert found.setup.weight_bytes == memory.weight_bytes
    assert found.request_bytes == memory.contexts[0].logical


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "llama-2-7b"}, "near names are llama-2-7b-hf"),
        ({"device": "a100"}, "near names are a100-40gb, a100-80gb"),
        ({"device": "t4", "dtype": "bfloat16"}, "the device t4 has no peak for 'bfloat16'"),
        ({"dtype": "int2"}, "unknown dtype 'int2': use one of .*int8, int4"),
        ({"cache_dtype": "int2"}, "unknown cache dtype 'int2'"),
        ({"context": 0}, "context must be a whole number of at least 1, got 0"),
        ({"context": -4}, "context must be a whole number of at least 1, got -4"),
        ({"devices": 0}, "devices must be a whole number of at least 1, got 0"),
        ({"devices": 10**9}, "plans go up to 4096"),
        ({"utilization": 0}, "utilization must be above 0 and at most 1, as in 0.9, got 0"),
        ({"utilization": "1.01"}, "utilization must be"),
        ({"utilization": -0.5}, "utilization must be"),
        ({"utilization": "1/2"}, "utilization must be"),
        ({"utilization": float("nan")}, "utilization must be"),
        ({"utilization": True}, "utilization must be"),
        ({"source": 5}, "the model llama-2-7b-hf has no encoder"),
        ({"model": "t5-small"}, "reads a source"),
        ({"model": "t5-small", "source": 0}, "source must be"),
    ],
)
def test_bad_input(options, said):
    with pytest.raises(UsageError, match=said):
        plan(**{"model": "llama-2-7b-hf", "device": "a10", "context": 4_096, **options})
