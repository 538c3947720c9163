"""Shares of a model under tensor parallelism, and quantised weights: array by array, and by hand."""

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.blueprint import build_weights
from kvsim.costs.bytes.parameters import count_parameters
from kvsim.costs.plans.planning import plan
from kvsim.costs.plans.shards import kv_heads_each, measure_weights, shard
from kvsim.errors import UsageError
from tests.models import PRIMES, configs


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
def test_shares_cover_every_array(config, data):
    """No array is lost: the shares of an array add up to at least the whole, and one device holds all of it."""
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
    """13 inputs of 4 bits are 7 bytes and share one scale; norms, router and head are not quantised."""
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
