"""The formulas that the hints give are right answers, for every model and device that may be drawn."""

import pytest

from kvsim.learn.checkers import memory_bill, prefill_vs_decode


def by_hand(f):
    """The answers of 09 from the numbers that the learner's file states."""
    peak, bandwidth = float(f["peak"]), float(f["bandwidth"])
    found = {}
    for name, fed, seen in (("prefill", f["prompt"], 0), ("decode", 1, f["context"])):
        flops = 2 * f["weights"] * fed + 4 * f["layers"] * f["heads"] * f["d_head"] * seen
        moved = 2 * f["weights"] + f["kv_bytes"] * max(fed, seen)
        found |= {f"{name}_flops": flops, f"{name}_bytes": moved, f"{name}_intensity": flops / moved,
                  f"{name}_bound": "compute" if flops / moved > peak / bandwidth else "memory",
                  f"{name}_ms": 1000 * max(flops / peak, moved / bandwidth)}  # fmt: skip
    n = f["n"]
    found["saved_last_step"] = round(100 * (1 - 1 / n), 2)
    found["saved_whole_run"] = round(100 * (1 - sum(range(n + 1)) / sum(i * i for i in range(n + 1))), 2)
    return found | {"gpt2_step_ms": 124e6 * 4 / 320e9 * 1000}


@pytest.mark.parametrize("seed", range(len(prefill_vs_decode.CASES)))
def test_prefill_and_decode_by_hand(seed):
    given, answers = by_hand(prefill_vs_decode.facts(seed)), prefill_vs_decode.answers(seed)
    assert set(given) == set(answers)
    assert {name: one.accepts(given[name]) for name, one in answers.items()} == dict.fromkeys(answers, True)


@pytest.mark.parametrize("seed", range(0, len(memory_bill.GROUPED), 3))
def test_the_bill_by_hand(seed):
    f, answers = memory_bill.facts(seed), memory_bill.answers(seed)
    each = 2 * f["layers"] * f["kv_heads"] * f["d_head"] * 2
    room = f["memory_gb"] * 10**9 - f["parameters"] * 2
    given = {"own_bytes_per_token": each, "own_longest_context": room // each,
             "own_most_requests": room // (each * f["context"])}  # fmt: skip
    assert {name: one.value for name, one in answers.items()} == given
