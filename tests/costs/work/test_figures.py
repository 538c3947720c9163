"""Figures of `kvsim.cost` that are known from other sources: published, or computed by hand."""

from dataclasses import replace

import pytest

from kvsim.config import Experts, LayerKind
from kvsim.costs.bytes.parameters import count_parameters, measure_parameters
from kvsim.costs.public.devices import find_device
from kvsim.costs.public.models import find_config
from kvsim.costs.work.conventions import CONVENTIONS
from kvsim.costs.work.cost import cost
from kvsim.costs.work.reads import count_reads
from kvsim.costs.work.roofline import Limits
from kvsim.errors import UsageError
from tests.costs.published import PARAMETERS
from tests.models import PRIMES


def test_llama_2_7b():
    """Context c counts the tokens that the fed token sees, itself included. A prefill of 4,096 has the head on all
    positions under causal and square, and on the last position under last."""
    found = cost("llama-2-7b-hf", prompt=4_096, new=1_000)
    assert found.parameters.total == 6_738_415_616
    for number, context in ((2, 4_097), (1_000, 5_095)):
        for convention in CONVENTIONS:
            assert found.cached.step_flops(number, convention) == 13_214_154_752 + 524_288 * context
    prefill = found.cached.prefill
    assert prefill.flops("causal") == 58_524_298_117_120
    assert prefill.flops("square") == 62_921_270_886_400
    assert prefill.flops("last") == 58_524_298_117_120 - 4_095 * 2 * 4_096 * 32_000
    assert found.uncached.prefill.flops("causal") == prefill.flops("causal")
    assert prefill.moved == (2 * (6_738_415_616 - 131_072_000 + 4_096 * 4_096), 0, 4_096 * 524_288)
    assert found.cached.decode.moved.kv_read == sum(524_288 * seen for seen in range(4_096, 5_095))
    assert found.cached.decode.moved.kv_written == 999 * 524_288
    # 13,214,154,752 / 524,288 = 25,204; Σ i over a prompt of n is n (n + 1) / 2
    assert found.crossover == (25_204, {"square": 25_204, "causal": 50_407, "last": 49_408})


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_numbers_of_parameters(name):
    assert count_parameters(find_config(name)[1]) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "total", "active", "embeddings"),
    [
        # Model cards: 46.7B and 12.9B; 30.5B, 3.3B (3.353), non-embedding 29.9B; 671B and 37B (without the token
        # table's 0.9); 116.8B and 5.1B (without its 0.6)
        ("mixtral-8x7b-v0.1", "46.7", "12.9", 32_000 * 4_096),
        ("qwen3-30b-a3b", "30.5", "3.4", 151_936 * 2_048),
        ("deepseek-v3", "671.0", "37.6", 129_280 * 7_168),
        ("gpt-oss-120b", "116.8", "5.7", 201_088 * 2_880),
        ("gpt2", "0.1", "0.1", (50_257 + 1_024) * 768),
    ],
)
def test_active_parameters(name, total, active, embeddings):
    found = measure_parameters(find_config(name)[1])
    assert f"{found.total / 1e9:.1f}" == total
    assert f"{found.active / 1e9:.1f}" == active
    assert found.tables == embeddings


def test_experts():
    """Of 5 experts 2 run: all of them are five halves of that."""
    mixed = replace(PRIMES, layers=(PRIMES.layers[0], LayerKind(window=3, experts=Experts(5, 2, 7, d_shared=4))))
    one = 3 * 13 * 7  # gate, up and down of one expert for one token
    phase = cost(mixed, prompt=6, new=3).cached.total
    for convention in CONVENTIONS:
        assert phase.flops_of_all_experts(convention) - phase.flops(convention) == 2 * 8 * 3 * one
        dense = cost(PRIMES, prompt=6, new=3).cached.total
        assert dense.flops_of_all_experts(convention) == dense.flops(convention)
    assert measure_parameters(mixed).idle == 3 * one
    reads = [sum(array.read(rows) for array in count_reads(mixed).decoder.mixed) for rows in (1, 2, 3, 9)]
    assert reads == [2 * one, 4 * one, 5 * one, 5 * one]
    assert phase.flops("last") - phase.flops_without_head("last") == 2 * 3 * 13 * 101


def test_latent_forms():
    found = {form: cost("deepseek-v3", prompt=1_000, new=2, latent=form) for form in
             ("reexpanded", "absorbed", "cached_expanded")}  # fmt: skip
    decode = {form: c.cached.decode for form, c in found.items()}
    assert decode["absorbed"].moved.kv_read == decode["reexpanded"].moved.kv_read == 1_000 * 70_272
    assert decode["cached_expanded"].moved.kv_read == 1_000 * 61 * 128 * (192 + 128) * 2
    # Expanding 1,001 latents again, of which cached_expanded expands one
    again = 2 * 61 * 1_000 * 512 * 128 * (128 + 128)
    assert decode["reexpanded"].flops("last") - decode["cached_expanded"].flops("last") == again
    assert found["reexpanded"].crossover.decode is None  # which grows faster than attention
    assert found["absorbed"].crossover.decode < found["cached_expanded"].crossover.decode
    assert len({c.cached.prefill.moved.weights for c in found.values()}) == 1


def test_huge_counts_are_exact():
    found = cost("llama-2-7b-hf", prompt=1, new=10**12)
    fed = 10**12 - 1
    assert found.cached.decode.flops("last") == 13_214_154_752 * fed + 524_288 * ((10**12 + 2) * fed // 2)
    assert found.cached.decode.moved.kv_read == 524_288 * (fed * (fed + 1) // 2)
    t4 = find_device("t4")
    prefill, decode = found.cached.bounds(Limits(t4.peak("float16"), t4.bandwidth), "last")
    assert (prefill.steps, decode.steps, decode.compute_bound) == (1, fed, 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"prompt": 0}, "prompt must be a whole number of at least 1"), ({"new": -1}, "new must be"),
     ({"cache": "offload:dynamic"}, "count supports"), ({"dtype": "int8"}, "unknown dtype"),
     ({"source": 3}, "has no encoder"),
     ({"latent": "absorbed"}, "no latent attention"), ({"model": "gtp2"}, "near names are gpt2")],
)  # fmt: skip
def test_bad_input(wrong, said):
    options = {"model": "gpt2", "prompt": 10, **wrong}
    with pytest.raises(UsageError, match=said):
        cost(options.pop("model"), **options)
    with pytest.raises(UsageError, match="unknown convention 'triangle': use one of square, causal, last"):
        cost("gpt2", prompt=1).cached.prefill.flops("triangle")
