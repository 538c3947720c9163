"""What would fit: each change is a plan of its own, and saves what it says."""

from dataclasses import replace

import pytest

from kvsim.costs.plans.planning import plan
from kvsim.costs.plans.remedies import fewer_heads, find_remedies, largest_power, with_window
from kvsim.costs.public.models import find_config

CASES = [
    ("llama-2-7b-hf", "a10", 4_096, {}),
    ("llama-2-7b-hf", "t4", 4_096, {"dtype": "float32"}),
    ("gemma-3-27b-pt", "a100-80gb", 32_768, {"devices": 2}),
    ("deepseek-v3", "h200", 32_768, {"devices": 8, "dtype": "bfloat16"}),
    ("llama-3.1-8b", "l4", 100_000, {"cache_dtype": "int4", "dtype": "int8"}),
    ("t5-small", "cpu", 100, {"source": 512}),
    ("mistral-7b-v0.1", "rtx-4090", 1, {"utilization": "0.5"}),
]


def alone(kind, value, model, device, context, options):
    """The same change asked as a plan."""
    config = find_config(model)[1]
    base = plan(model, device, context, **options).setup
    if kind == "kv_heads":
        return plan(replace(config, n_kv_heads=value), device, context, **options)
    if kind == "window":
        return plan(with_window(config, value), device, context, **options)
    changed = {
        "weights": {"dtype": value, "cache_dtype": base.kept}, "cache": {"cache_dtype": value}, "context": {},
        "devices": {"devices": value},
    }[kind]  # fmt: skip
    return plan(model, device, value if kind == "context" else context, **{**options, **changed})


@pytest.mark.parametrize(("model", "device", "context", "options"), CASES)
def test_each_is_a_plan_of_its_own(model, device, context, options):
    now = plan(model, device, context, **options)
    remedies = find_remedies(now)
    assert remedies
    for remedy in remedies:
        then = alone(remedy.kind, remedy.value, model, device, context, options)
        assert remedy.fits == then.fits
        assert (remedy.weight_bytes, remedy.request_bytes) == (then.setup.weight_bytes, then.request_bytes)
        both = remedy.weight_bytes + remedy.request_bytes
        assert remedy.saved == now.setup.weight_bytes + now.request_bytes - both > 0
        for before, after in zip(now.fits, remedy.fits, strict=True):
            assert after.spare - before.spare == remedy.saved
    saved = [remedy.saved for remedy in remedies]
    assert saved == sorted(saved, reverse=True)


def test_by_hand():
    """Llama-2-7B at 4,096 tokens: 8 KV heads instead of 32 take 3/4 of a 2 GiB cache and of K's and V's matrices."""
    found = {(r.kind, r.value): r for r in find_remedies(plan("llama-2-7b-hf", "a10", 4_096))}
    eight = found["kv_heads", 8]
    assert eight.request_bytes == 2**31 // 4
    assert eight.saved == 2**31 * 3 // 4 + 2 * 32 * 2 * 4_096 * 3_072
    assert found["context", 2_048].saved == 2**30
    assert found["window", 2_048].request_bytes == 2_047 * 524_288
    assert {kind for kind, _ in found} == {"kv_heads", "weights", "cache", "window", "context", "devices"}
    assert ("weights", "float16") not in found


def test_what_cannot_be_is_not_offered():
    """A latent has no KV heads; a device without bfloat16; windows narrower already."""
    latent = find_remedies(plan("deepseek-v3", "h200", 4_096, devices=128))
    assert {remedy.kind for remedy in latent} == {"weights", "cache", "window", "context"}
    turing = find_remedies(plan("gpt2", "t4", 512, dtype="float32"))
    assert {remedy.value for remedy in turing if remedy.kind == "weights"} == {"float16", "int8", "int4"}
    narrow = find_remedies(plan("mistral-7b-v0.1", "a10", 32_768))
    assert not [remedy for remedy in narrow if remedy.kind in ("window", "context")]


def test_the_longest_context_that_fits():
    """Llama-2-7B on an A10 at 32,768 tokens: 20,071 fit, once."""
    now = plan("llama-2-7b-hf", "a10", 32_768)
    assert now.fits[0].requests == 0
    shorter = next(remedy for remedy in find_remedies(now) if remedy.kind == "context")
    assert shorter.value == 20_071
    assert shorter.fits[0].requests == 1
    assert 0 <= shorter.fits[0].spare < 524_288


def test_numbers():
    assert [largest_power(n) for n in (2, 3, 4, 5, 4_096, 4_097)] == [1, 2, 2, 4, 2_048, 4_096]
    config = find_config("llama-2-7b-hf")[1]
    assert fewer_heads(config) == [16, 8, 1]
    assert fewer_heads(replace(config, n_kv_heads=12)) == [6, 1]
    assert fewer_heads(replace(config, n_kv_heads=1)) == []
