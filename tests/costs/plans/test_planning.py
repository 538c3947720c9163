"""What fits on a device: against the exact bytes of `kvsim memory`, and figures computed by hand."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvsim.config import LayerKind
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.plans.planning import Setup, find_fits, list_readings, plan
from kvsim.costs.public.devices import find_device, read_devices
from kvsim.costs.public.models import find_config, read_catalogue
from kvsim.errors import UsageError
from tests.models import PRIMES


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


def test_missing_bytes():
    found = plan("llama-2-7b-hf", "t4", 4_096, dtype="float32").fits[0]
    assert (found.tokens, found.requests) == (0, 0)
    assert found.spare == 16 * 10**9 - 4 * 6_738_415_616 - 4_096 * 1_048_576 < 0


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


def test_windows_in_every_layer_are_unlimited():
    found = plan("mistral-7b-v0.1", "a10", 10**12, dtype="float16")
    assert [fit.tokens for fit in found.fits] == [None] * 3
    each = 4_095 * 131_072
    assert found.fits[0].requests == (24 * 10**9 - 2 * 7_241_732_096) // each
    small = find_device("a10")._replace(nominal_bytes=15 * 10**9, usable_bytes=None)
    fit = find_fits(replace(found.setup, device=small), Fraction(1), 10)[0]
    assert fit.tokens == (15 * 10**9 - 2 * 7_241_732_096) // 131_072


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
        ({"devices": 10**9}, "devices must be at most 4096"),
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
