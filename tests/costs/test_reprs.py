"""`repr` of every public result: one line of at most 200 characters that names the model and the run."""

import pytest

import kvsim
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.parameters import measure_parameters
from kvsim.costs.bytes.policies import list_policies
from kvsim.costs.claims import list_claims
from kvsim.costs.plans.grid import Axes, make_grid
from kvsim.costs.plans.planning import plan
from kvsim.costs.public.models import find_config

LARGEST = 10**18


def results(tmp_path):
    """Every kind of result, with the longest names and numbers that it can hold."""
    folder = tmp_path / ("a\n" * 100 + "b")
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    run = {"prompt": LARGEST, "new": LARGEST}
    cost = kvsim.cost(folder, **run)
    mixture = kvsim.count("mixtral-8x7b-v0.1", **run)
    return [
        cost, cost.count, cost.cached, cost.cached.total, cost.count.sums, cost.parameters,
        mixture, mixture.step(LARGEST), kvsim.count("t5-small", source=LARGEST, **run),
        kvsim.count("gpt2", prompt=1, cache=f"static:{LARGEST - 1}"), measure_parameters(find_config("gpt2")[1]),
        measure_memory(folder, [LARGEST] * 100, batch=LARGEST, cache_dtype="int8:zero"),
        plan(folder, "a100-80gb", LARGEST, utilization="0." + "3" * 18),
        plan(folder, "a100-80gb", LARGEST).setup, make_grid(Axes(["gpt2"] * 100, ["a10"], range(1, 1_000))),
        list_policies(folder), *list_claims(),
    ]  # fmt: skip


CONFIG = (
    '{"model_type": "gpt2", "vocab_size": 101, "n_positions": 64, "n_embd": 64, "n_layer": 3, "n_head": 1,'
    ' "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05}'
)


def test_every_repr_is_one_short_line(tmp_path):
    for result in results(tmp_path):
        text = repr(result)
        assert len(text) <= 200, text
        assert text.isprintable(), text
        assert text.startswith(f"{type(result).__name__}("), text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            lambda: kvsim.count("gpt2", prompt=5, new=2),
            "Count('gpt2', prompt=5, new=2, cache='dynamic', dtype='float32')",
        ),
        (
            lambda: kvsim.cost("t5-small", prompt=5, cache="none", source=3),
            "Cost('t5-small', prompt=5, new=1, cache='none', dtype='bfloat16', source=3)",
        ),
        (
            lambda: kvsim.count("gpt2", prompt=5, new=2).step(2),
            "CountedStep(number=2, fed=1, seen=5, macs=123642624)",
        ),
        (
            lambda: measure_memory("gpt2", [5], cache_dtype="int8"),
            "Memory('gpt2', dtype='bfloat16', cache_dtype='int8', weight_bytes=248879616, contexts=1)",
        ),
        (
            lambda: plan("gpt2", "a10", 5, utilization="0.90"),
            "Plan('gpt2', 1 x a10, dtype='float16', cache_dtype='float16', utilization=0.9, context=5)",
        ),
        (lambda: list_claims()[0], "Claim('gpt2-size', section='22.1.1', verdict='rounded')"),
    ],
)  # fmt: skip
def test_reprs_say_what_was_asked(result, text):
    assert repr(result()) == text
