"""Figures of `kvsim.cost` that are known from elsewhere, and searches and sums against trying every step."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.config import Experts, LayerKind
from kvsim.costs.public.devices import find_device
from kvsim.costs.public.models import find_config
from kvsim.costs.work.conventions import ATTENTION, CONVENTIONS
from kvsim.costs.work.cost import cost
from kvsim.costs.work.crossover import find_crossover
from kvsim.costs.work.reads import count_arrays
from kvsim.costs.work.roofline import Bound, Limits, Work, bound, needed_overhead
from kvsim.counting.symbolic import Poly
from kvsim.errors import UsageError
from tests.arrays.runs import ZOO
from tests.costs.claims.published import PARAMETERS
from tests.models import PRIMES, configs


def test_llama_2_7b():
    """Context c is what the fed token sees, itself among it. The prefill of 4,096 has the head on all positions both
    as causal and as square; the head on the last alone is the third figure."""
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
    assert count_arrays(find_config(name)[1]).total == PARAMETERS[name]


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
    found = count_arrays(find_config(name)[1])
    assert f"{found.total / 1e9:.1f}" == total
    assert f"{found.active / 1e9:.1f}" == active
    assert found.embeddings == embeddings


def test_experts():
    """Of 5 experts 2 run: all of them are five halves of that."""
    mixed = replace(PRIMES, layers=(PRIMES.layers[0], LayerKind(window=3, experts=Experts(5, 2, 7, d_shared=4))))
    one = 3 * 13 * 7  # gate, up and down of one expert for one token
    phase = cost(mixed, prompt=6, new=3).cached.total
    for convention in CONVENTIONS:
        assert phase.flops_of_all_experts(convention) - phase.flops(convention) == 2 * 8 * 3 * one
        dense = cost(PRIMES, prompt=6, new=3).cached.total
        assert dense.flops_of_all_experts(convention) == dense.flops(convention)
    arrays = count_arrays(mixed)
    assert arrays.total - arrays.active == 3 * one
    reads = [sum(array.read(rows) for array in arrays.decoder.mixed) for rows in (1, 2, 3, 9)]
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


def overtaken(step):
    """Does attention cost at least as much as all else?"""
    attention = sum(flops for kind, flops in step.items() if kind in ATTENTION)
    return attention >= sum(step.values()) - attention


@settings(max_examples=12)
@given(config=configs(), cache=st.sampled_from(["dynamic", "none", "static:200", "window:5"]))
def test_the_crossover_is_the_first_context_of_all(config, cache):
    config, far = replace(config, max_context=200), 60
    found = find_crossover(kvsim.count(config, prompt=1, new=1, cache=cache))
    spec = "window:5" if cache == "window:5" else "dynamic"
    one_by_one = cost(config, prompt=1, new=far, cache=spec).cached.count
    tried = {"decode": [overtaken({kind: t.flops for kind, t in one_by_one.step(i).by("kind").items()})
                        for i in range(1, far + 1)]}  # fmt: skip
    prefills = [cost(config, prompt=n, cache=spec).cached.prefill for n in range(1, far + 1)]
    for convention in CONVENTIONS:
        tried[convention] = [overtaken(prefill.flops_by("kind", convention)) for prefill in prefills]
    for what, got in {"decode": found.decode, **found.prefill}.items():
        first = next((i for i, over in enumerate(tried[what], start=1) if over), None)
        assert got == first if first is not None else got is None or got > far


def test_the_crossover_of_models_with_windows():
    """Mistral's queries see 4,096: never. gpt-oss's second layers see everything: far away."""
    assert cost("mistral-7b-v0.1", prompt=1).crossover.decode is None
    assert cost("mistral-7b-v0.1", prompt=1).crossover.prefill["causal"] is None
    assert cost("mistral-7b-v0.1", prompt=1).crossover.prefill["square"] is not None
    oss = cost("gpt-oss-20b", prompt=1, new=2)
    context = oss.crossover.decode
    steps = cost("gpt-oss-20b", prompt=context - 1, new=2).cached.decode, cost("gpt-oss-20b", prompt=context - 2, new=2)
    assert overtaken(steps[0].flops_by("kind", "last"))
    assert not overtaken(steps[1].cached.decode.flops_by("kind", "last"))


@settings(max_examples=30)
@given(
    config=st.one_of(configs(), st.sampled_from([c for c in ZOO.values() if c.encoder is None])),
    prompt=st.integers(1, 9), new=st.integers(1, 12), cache=st.sampled_from(["dynamic", "none", "window:4"]),
    peak=st.integers(1, 400), bandwidth=st.integers(1, 40), convention=st.sampled_from(CONVENTIONS),
    overhead=st.sampled_from([Fraction(0), Fraction(1, 3)]),
)  # fmt: skip
def test_the_roofline_is_the_sum_over_steps(config, prompt, new, cache, peak, bandwidth, convention, overhead):
    side = cost(replace(config, max_context=64), prompt=prompt, new=new, cache=cache).cached
    times = []
    for number in range(1, new + 1):
        flops = side.step_flops(number, convention)
        if cache == "none":
            one = cost(replace(config, max_context=64), prompt=prompt + number - 1, cache="none").cached.prefill
        else:
            before = cost(replace(config, max_context=64), prompt=prompt, new=max(number - 1, 1), cache=cache).cached
            after = cost(replace(config, max_context=64), prompt=prompt, new=number, cache=cache).cached
            one = None
        if number == 1:
            moved = side.prefill.moved.total
        else:
            moved = one.moved.total if one else after.decode.moved.total - before.decode.moved.total
        times.append((Fraction(flops, peak), Fraction(moved, bandwidth)))
    prefill, decode = side.bounds(Limits(peak, bandwidth, overhead), convention)
    assert prefill.seconds == max(times[0]) + overhead
    assert decode.seconds == sum(map(max, times[1:])) + overhead * (new - 1)
    assert decode.compute_bound == sum(a > b for a, b in times[1:])
    assert prefill.steps + decode.steps == new


def test_a_bound_may_change_sides_more_than_once():
    work = Work(1, 20, Poly((100, -20, 1), 1, 20), Poly((0, 3), 1, 20))  # (t - 10)^2 against 3 t
    found = bound(Limits(1, 1), [work])
    assert found.seconds == sum(max((t - 10) ** 2, 3 * t) for t in range(1, 21))
    assert found.compute_bound == sum((t - 10) ** 2 > 3 * t for t in range(1, 21))
    tie = bound(Limits(1, 1), [Work(1, 2, 5, 5)])  # which is for memory
    assert tie == (10, 0, 2)
    assert bound(Limits(1, 1), []).each is None
    with pytest.raises(ValueError, match="no steps"):
        needed_overhead(Fraction(1), bound(Limits(1, 1), []))


# A T4, seconds with a cache and without: GPT-2 with 1,000 new tokens, SmolLM2-1.7B with 300
# (https://huggingface.co/blog/not-lain/kv-caching). Assumed: prompts of 5 and 4 tokens, where one more changes
# nothing below by a hundredth, and float32, as both checkpoints load unless told otherwise.
MEASURED = {"gpt2": (5, 1_000, "11.885", "56.197"), "smollm2-1.7b": (4, 300, "11.7", "61")}


def whole_bound(side, convention="last"):
    """All steps' bound on a T4 in float32."""
    t4 = find_device("t4")
    prefill, decode = side.bounds(Limits(t4.peak("float32"), t4.bandwidth), convention)
    return Bound(*(a + b for a, b in zip(prefill, decode, strict=True)))


def test_what_the_overhead_must_be_for_published_times():
    """Milliseconds a step. No one overhead gives both times: that of the cached run leaves a run without a cache which
    reaches a quarter or a third of the peak."""
    needed, share = {}, {}
    for name, (prompt, new, with_cache, without) in MEASURED.items():
        found = cost(name, prompt=prompt, new=new, dtype="float32")
        cached, uncached = whole_bound(found.cached), whole_bound(found.uncached)
        overheads = needed_overhead(Fraction(with_cache), cached), needed_overhead(Fraction(without), uncached)
        needed[name] = [round(float(1000 * overhead), 1) for overhead in overheads]
        share[name] = round(float(uncached.seconds / (Fraction(without) - new * overheads[0])), 2)
        assert cached.seconds + new * overheads[0] == Fraction(with_cache)
        assert cached.memory_bound == new
    assert needed == {"gpt2": [10.2, 44.8], "smollm2-1.7b": [17.4, 140.2]}
    assert share == {"gpt2": 0.25, "smollm2-1.7b": 0.34}


def test_flops_do_not_explain_those_times():
    """Times are 4.73 and 5.21 to 1; FLOPs by convention:"""
    found = {}
    for name, (prompt, new, *_) in MEASURED.items():
        found[name] = [round(float(cost(name, prompt=prompt, new=new).ratio(c)), 1) for c in CONVENTIONS]
    assert found == {"gpt2": [514.1, 490.8, 345.5], "smollm2-1.7b": [152.4, 151.5, 142.8]}


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
     ({"cache": "offload:dynamic"}, "count takes"), ({"dtype": "int8"}, "unknown dtype"),
     ({"source": 3}, "has no encoder"),
     ({"latent": "absorbed"}, "no latent attention"), ({"model": "gtp2"}, "near names are gpt2")],
)  # fmt: skip
def test_bad_input(wrong, said):
    asked = {"model": "gpt2", "prompt": 10, **wrong}
    with pytest.raises(UsageError, match=said):
        cost(asked.pop("model"), **asked)
    with pytest.raises(UsageError, match="unknown convention 'triangle': use one of square, causal, last"):
        cost("gpt2", prompt=1).cached.prefill.flops("triangle")
