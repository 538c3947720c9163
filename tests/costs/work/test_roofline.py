"""The roofline: equal to the sum over steps, and the overhead that published times imply."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.costs.public.devices import find_device
from kvsim.costs.work.conventions import CONVENTIONS
from kvsim.costs.work.cost import cost
from kvsim.costs.work.roofline import Bound, Limits, Work, bound, needed_overhead
from kvsim.counting.symbolic import Poly
from tests.arrays.runs import ZOO
from tests.models import configs


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
    tie = bound(Limits(1, 1), [Work(1, 2, 5, 5)])  # which counts as memory-bound
    assert tie == (10, 0, 2)
    assert bound(Limits(1, 1), []).each is None
    with pytest.raises(ValueError, match="no steps"):
        needed_overhead(Fraction(1), bound(Limits(1, 1), []))


# A T4, seconds with a cache and without: GPT-2 with 1,000 new tokens, SmolLM2-1.7B with 300
# (https://huggingface.co/blog/not-lain/kv-caching). Assumed: prompts of 5 and 4 tokens, where one more changes
# nothing below by a hundredth, and float32, as both checkpoints load by default.
MEASURED = {"gpt2": (5, 1_000, "11.885", "56.197"), "smollm2-1.7b": (4, 300, "11.7", "61")}


def whole_bound(side, convention="last"):
    """All steps' bound on a T4 in float32."""
    t4 = find_device("t4")
    prefill, decode = side.bounds(Limits(t4.peak("float32"), t4.bandwidth), convention)
    return Bound(*(a + b for a, b in zip(prefill, decode, strict=True)))


def test_the_overhead_that_published_times_imply():
    """Milliseconds a step. No single overhead gives both times: with that of the cached run, the run without a cache
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
