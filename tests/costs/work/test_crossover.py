"""The crossover of attention and weights: equal to the first of all contexts tried one by one."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.costs.work.conventions import ATTENTION, CONVENTIONS
from kvsim.costs.work.cost import cost
from kvsim.costs.work.crossover import find_crossover
from tests.models import configs


def overtaken(step):
    """Whether attention costs at least as much as all other products."""
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
