"""Bytes of a cache: against real caches, against counting one element after another, and numbers known by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.caches.specs import POLICIES
from kvsim.config import LayerKind
from kvsim.costs.bytes.memory import measure_memory, quantised_rows
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs, make_model

HYBRID = replace(
    PRIMES,
    n_layers=4,
    layers=(LayerKind(window=5), LayerKind(), LayerKind(window=5), LayerKind(window=12)),
)
TOKENS = [n % 5 for n in range(24)]


def measure(config, context, **options):
    return measure_memory(config, [context], **{"dtype": "float64", **options}).contexts[0]


# Real caches


@settings(max_examples=80)
@given(config=configs(), tokens=st.integers(1, 24))
def test_logical_is_what_a_real_cache_holds(config, tokens):
    model = make_model(replace(config, max_context=64))
    cache = model.new_cache("dynamic")
    model(TOKENS[: tokens // 2 + 1], cache)
    if tokens > cache.seen:
        model(TOKENS[cache.seen : tokens], cache)
    held = measure(config, cache.seen)
    assert held.logical == cache.logical_bytes
    assert held.logical == kvsim.count(config, prompt=cache.seen, dtype="float64").kv_bytes
    assert held.logical == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize("name", ZOO)
def test_every_family(name):
    """A model that ran, its cross-attention too, and what `count` says of a long context."""
    config = ZOO[name]
    source = {} if config.encoder is None else {"source": 9}
    model = make(config, "numpy", "float64")
    cache = model.new_cache("dynamic")
    model(IDS, cache, **source_of(config))
    held = measure(config, len(IDS), **source)
    assert held.logical == cache.logical_bytes
    assert held.cross == sum(layer.logical_bytes for layer in cache.cross)
    far = measure_memory(config, [12_345], dtype="float16", batch=3, **source).contexts[0]
    assert far.logical == 3 * kvsim.count(config, prompt=12_345, dtype="float16", **source).kv_bytes


@pytest.mark.parametrize("form", ["absorbed", "cached_expanded"])
def test_latent_forms(form):
    config = next(config for config in ZOO.values() if config.latent is not None)
    config = replace(config, latent=replace(config.latent, form=form))
    assert measure(config, 77).logical == kvsim.count(config, prompt=77, dtype="float64").kv_bytes


QUANTISED = ("int8", "int4", "fp8", "int8:zero", "int4:zero")


@pytest.mark.parametrize("name", [name for name in QUANTISED if name.partition(":")[0] in POLICIES])
@pytest.mark.parametrize("tokens", [1, 191, 192, 300])
def test_quantised_is_what_a_real_cache_holds(name, tokens):
    """Where this kvsim has those policies."""
    for config in (replace(PRIMES, max_context=400), replace(HYBRID, max_context=400)):
        model = make_model(config, "float32")
        cache = model.new_cache(name)
        model([n % 101 for n in range(tokens)], cache)
        metadata = sum(layer.metadata_bytes for layer in cache.layers)
        held = measure(config, tokens, dtype="float32", cache_dtype=name)
        assert held.logical == cache.logical_bytes + metadata
        assert held.quantised.scales + held.quantised.zero_points == metadata


# One element after another


def blocks_touched(rows, block):
    """Rows in blocks that are all full but the last, taken one at a time."""
    blocks = 0
    while rows > 0:
        rows -= block
        blocks += 1
    return blocks * block


@settings(max_examples=60)
@given(config=configs(), context=st.integers(1, 300), batch=st.integers(1, 3), block=st.integers(1, 20))
def test_paged_and_reserved_layer_by_layer(config, context, batch, block):
    held = measure(config, context, batch=batch, block=block, dtype="float32")
    logical = paged = reserved = everywhere = 0
    latent = config.latent
    row = config.n_kv_heads * 2 * config.d_head if latent is None else latent.rank + latent.d_rope
    if latent is not None and latent.form == "cached_expanded":
        row = config.n_heads * (latent.d_nope + latent.d_rope + latent.d_value)
    for kind in config.layers:
        seen = [p for p in range(context) if kind.window is None or p > context - kind.window]
        engine = context if kind.window is None or kind.window > context else kind.window
        logical += batch * row * 4 * len(seen)
        paged += batch * row * 4 * blocks_touched(len(seen), block)
        reserved += batch * row * 4 * blocks_touched(engine, block)
        everywhere += batch * row * 4 * blocks_touched(context, block)
    assert (held.logical, held.paged, held.reserved) == (logical, paged, reserved)
    assert held.everywhere == (everywhere if any(kind.window for kind in config.layers) else None)
    assert held.logical <= held.paged <= held.reserved <= (held.everywhere or held.reserved)
    assert held.quantised is None


def quantised_by_hand(heads, d_head, context, bits, item):
    """Payload, scales and residual of one layer: every element and every scale of its own, counted by name."""
    quantised = 0
    while context - quantised - 64 >= 128:
        quantised += 64
    elements = key_scales = value_scales = 0
    for _head in range(heads):
        key_scales += len({(row // 64, channel) for row in range(quantised) for channel in range(d_head)})
        value_scales += len({(row, channel // 64) for row in range(quantised) for channel in range(d_head)})
        elements += 2 * quantised * d_head
    return elements * bits // 8, 2 * (key_scales + value_scales), 2 * heads * (context - quantised) * d_head * item


@pytest.mark.parametrize(("name", "bits"), [("int8", 8), ("int4", 4), ("fp8", 8), ("int4:zero", 4)])
@pytest.mark.parametrize("context", [1, 127, 191, 192, 255, 256, 500])
@pytest.mark.parametrize("d_head", [10, 64, 128])
def test_quantised_element_by_element(name, bits, context, d_head):
    config = replace(PRIMES, d_head=d_head)
    held = measure(config, context, dtype="float16", cache_dtype=name, batch=3)
    payload, scales, residual = quantised_by_hand(PRIMES.n_kv_heads, d_head, context, bits, item=2)
    layers = 3 * PRIMES.n_layers
    q = held.quantised
    assert (q.payload, q.scales, q.residual) == (layers * payload, layers * scales, layers * residual)
    assert q.zero_points == (q.scales if name.endswith("zero") else 0)
    assert q.others == 0
    assert held.logical == q.payload + q.scales + q.zero_points + q.residual
    assert (held.paged, held.reserved, held.everywhere) == (None, None, None)


def test_layers_with_a_window_stay_as_they_came():
    held = measure(HYBRID, 500, dtype="float16", cache_dtype="int8")
    assert held.quantised.others == (4 + 4 + 11) * 2 * 3 * 10 * 2
    only = replace(HYBRID, layers=(HYBRID.layers[1],), n_layers=1)
    assert held.logical - held.quantised.others == measure(only, 500, dtype="float16", cache_dtype="int8").logical


def test_cross_attention_stays_as_it_came():
    config = next(config for name, config in ZOO.items() if config.encoder is not None)
    held = measure(config, 500, source=33, cache_dtype="int8")
    assert held.quantised.others == held.cross == config.n_layers * 2 * config.n_heads * config.d_head * 33 * 8


def test_a_window_beside_cross_attention():
    """Rows of the source are no more where every layer has the full context: a window of 5, blocks of 8."""
    config = next(config for config in ZOO.values() if config.encoder is not None)
    plain = measure(config, 100, source=33, block=8)
    hybrid = replace(config, layers=(replace(config.layers[0], window=5), *config.layers[1:]))
    held = measure(hybrid, 100, source=33, block=8)
    row = 2 * config.n_heads * config.d_head * 8
    assert plain.paged == row * config.n_layers * (104 + 40)
    assert held.paged == plain.paged - row * (104 - 8)
    assert held.everywhere == plain.paged
    assert held.cross == plain.cross == row * config.n_layers * 33


# By hand


def test_a_hybrid_by_hand():
    """Windows of 5, 5 and 12 beside a full layer; a row is 2 · 3 heads · 10 · 2 B = 120 B; blocks of 4."""
    held = measure(HYBRID, 30, dtype="float16", block=4)
    assert held.logical == (4 + 30 + 4 + 11) * 120
    assert held.paged == (4 + 32 + 4 + 12) * 120
    assert held.reserved == (8 + 32 + 8 + 12) * 120
    assert held.everywhere == 4 * 32 * 120
    short = measure(HYBRID, 4, dtype="float16", block=4)
    assert short.logical == short.paged == short.reserved == short.everywhere == 4 * 4 * 120
    memory = measure_memory(HYBRID, [1], dtype="float16")
    assert (memory.row_bytes, memory.far_bytes) == (4 * 120, 120)


@pytest.mark.parametrize(
    ("name", "dtype", "weights", "token"),
    [
        ("llama-2-7b-hf", "float16", 13_476_831_232, 524_288),
        ("llama-2-70b-hf", "float16", 2 * (68_976_653_312 - 80 * 64), 327_680),
        ("deepseek-v3", "bfloat16", 2 * 671_026_419_200, 70_272),
        ("llama-3.1-405b", "bfloat16", 2 * 405_853_388_800, 516_096),
        ("mistral-7b-v0.1", "bfloat16", 2 * 7_241_732_096, 131_072),
        ("qwen3-8b", "bfloat16", 2 * 8_190_735_360, 147_456),
    ],
)
def test_known_figures(name, dtype, weights, token):
    memory = measure_memory(name, [1, 3_000, 10**12], dtype=dtype)
    assert memory.weight_bytes == weights
    assert memory.row_bytes == token
    assert memory.contexts[1].logical == 3_000 * token
    if memory.far_bytes == token:
        assert memory.contexts[2].logical == 10**12 * token


def test_mistrals_window():
    """4,096 in every layer: 4,095 rows must stay, however long the text."""
    memory = measure_memory("mistral-7b-v0.1", [4_095, 4_096, 10**18])
    assert [held.logical for held in memory.contexts] == [4_095 * 131_072] * 3
    assert [held.reserved for held in memory.contexts] == [4_096 * 131_072] * 3
    assert memory.contexts[2].everywhere == 10**18 * 131_072
    assert memory.far_bytes == 0


def test_gemma_3_by_hand():
    """62 layers, every sixth full: 10 of them; the other 52 see 1,024 tokens. 2 · 16 heads · 128 · 2 B a row."""
    held = measure_memory("gemma-3-27b-pt", [32_768]).contexts[0]
    row = 2 * 16 * 128 * 2
    assert held.logical == (10 * 32_768 + 52 * 1_023) * row
    assert held.paged == held.reserved == (10 * 32_768 + 52 * 1_024) * row
    assert held.everywhere == 62 * 32_768 * row


def test_kivis_share():
    """float16, head size 64, 4,096 rows: (3968 · 0.515625 + 128) / 4096 of the cache's own bytes."""
    memory = measure_memory("gpt2", [4_096], dtype="float16", cache_dtype="int8")
    own = measure_memory("gpt2", [4_096], dtype="float16").contexts[0].logical
    assert memory.contexts[0].logical * 4_096 * 64 == own * (3_968 * 33 + 128 * 64)
    assert quantised_rows(4_096) == 3_968


def test_huge_is_exact():
    held = measure_memory("llama-2-7b-hf", [10**18 - 1], batch=10**18, dtype="float16", block=10).contexts[0]
    assert held.logical == (10**18 - 1) * 10**18 * 524_288
    assert held.paged == held.reserved == 10**18 * 10**18 * 524_288


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "llama-2-7b"}, "near names are .*llama-2-7b-hf"),
        ({"contexts": [0]}, "context must be a whole number of at least 1, got 0"),
        ({"contexts": [-5]}, "got -5"),
        ({"contexts": [4096.0]}, "got 4096.0"),
        ({"contexts": [True]}, "got True"),
        ({"contexts": [10**18 + 1]}, "must be at most 1000000000000000000"),
        ({"batch": 0}, "batch must be a whole number"),
        ({"block": 0}, "block must be a whole number"),
        ({"dtype": "int8"}, "unknown dtype 'int8': use one of float64"),
        ({"cache_dtype": "int3"}, "unknown cache dtype 'int3': use one of .*int4:zero, fp8"),
        ({"cache_dtype": "fp8:zero"}, "unknown cache dtype 'fp8:zero'"),
        ({"source": 9}, "the model gpt2 has no encoder"),
        ({"model": "t5-small"}, "reads a source"),
        ({"model": "t5-small", "source": 0}, "source must be a whole number"),
        ({"model": "phi-2", "cache_dtype": "int8"}, "between 64 channels, but a value has 80"),
    ],
)
def test_bad_input(wrong, said):
    asked = {"model": "gpt2", "contexts": [10], **wrong}
    with pytest.raises(UsageError, match=said):
        measure_memory(asked.pop("model"), asked.pop("contexts"), **asked)


def test_four_bits_of_an_odd_head():
    with pytest.raises(UsageError, match="a key has 5 and a value 5: use int8"):
        measure(replace(PRIMES, d_head=5), 10, cache_dtype="int4")
    assert measure(replace(PRIMES, d_head=5), 300, cache_dtype="int8").quantised.payload == 128 * 2 * 2 * 3 * 5
