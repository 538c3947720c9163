"""09: FLOPs, bytes and least times of a prefill and of a decode step. The right numbers are those of `kvsim.cost`."""

from functools import cache
from typing import Any, NamedTuple

from kvsim.costs.public.devices import Device, find_device
from kvsim.costs.public.models import find_config
from kvsim.costs.work.cost import Phase, Side, cost
from kvsim.costs.work.roofline import Limits, Work, bound
from kvsim.learn.answers import Answer

DTYPE, ITEM = "float16", 2
NEAR = 0.1  # what is left out is less than this part
EXACT = 0.0002  # of a percentage
SMALLEST, LARGEST = 21, 60  # steps
GPT2, T4 = "gpt2", "t4"


class Case(NamedTuple):
    """A prompt of `prompt` tokens, and a decode step after `context` ones, with a cache that fits on the device."""

    model: str
    device: str
    prompt: int
    context: int


CASES = (
    Case("llama-3.1-8b", "a100-40gb", 1024, 98304),
    Case("smollm3-3b", "a10", 1536, 65536),
    Case("llama-3.1-8b", "l4", 1536, 16384),
    Case("qwen3-8b", "a10", 1024, 32768),
    Case("qwen2.5-7b", "l4", 2048, 65536),
    Case("qwen2.5-7b", "a100-40gb", 1024, 81920),
)


def own_case(seed: int) -> Case:
    """The case of a seed."""
    return CASES[seed % len(CASES)]


def own_steps(seed: int) -> int:
    """The steps of a seed, whose score cells are counted."""
    return SMALLEST + seed % (LARGEST - SMALLEST + 1)


@cache
def run(model: str, prompt: int, new: int = 1) -> Side:
    """The run with a cache."""
    return cost(model, prompt=prompt, new=new, dtype=DTYPE).cached


def limits_of(device: Device, dtype: str = DTYPE) -> Limits:
    """The peak and the bandwidth."""
    return Limits(device.peak(dtype), device.bandwidth)


def facts(seed: int) -> dict[str, Any]:
    """The learner's own model, device and sizes."""
    case, steps = own_case(seed), own_steps(seed)
    config, limits = find_config(case.model)[1], limits_of(find_device(case.device))
    moved = run(case.model, case.context, 2).decode.moved
    return {
        "model": case.model, "device": case.device.upper().replace("-", " "), "weights": moved.weights // ITEM,
        "layers": config.n_layers, "heads": config.n_heads, "d_head": config.d_head, "kv_bytes": moved.kv_written,
        "peak": f"{limits.peak:.4g}", "bandwidth": f"{limits.bandwidth:.4g}", "prompt": case.prompt,
        "context": case.context, "n": steps,
    }  # fmt: skip


def answers(seed: int) -> dict[str, Answer]:
    """The questions of answers.toml."""
    case = own_case(seed)
    limits = limits_of(find_device(case.device))
    return {
        **answer_phase("prefill", run(case.model, case.prompt).prefill, case, limits),
        **answer_phase("decode", run(case.model, case.context, 2).decode, case, limits),
        **answer_saved(own_steps(seed)),
        "gpt2_step_ms": answer_gpt2(),
    }


def answer_phase(name: str, phase: Phase, case: Case, limits: Limits) -> dict[str, Answer]:
    """The five questions of one step."""
    flops, moved = phase.flops("causal"), phase.moved.total
    kv, weights = phase.moved.kv_read + phase.moved.kv_written, phase.moved.weights
    found = bound(limits, [Work(1, 1, flops, moved)])
    waits = "compute" if found.compute_bound else "memory"
    times = [bound(limits, [Work(1, 1, *work)]).seconds * 1000 for work in ((flops, 0), (0, moved))]
    alone = {"one_token_alone": flops / phase.fed} if phase.fed > 1 else {
        "attention_left_out": weights * 2 / ITEM, "context_fed_again": fed_again(case)}  # fmt: skip
    fewer: dict[str, Any] = {"weights_traffic_forgotten": kv, "numbers_for_bytes": weights / ITEM + kv}
    fewer |= {"weights_for_each_token": weights * phase.fed + kv} if phase.fed > 1 else {
        "cache_traffic_forgotten": weights}  # fmt: skip
    by_bytes = {id: flops / number for id, number in fewer.items()}
    by_flops = {id: number / moved for id, number in alone.items()} | {"one_for_two": flops / 2 / moved}
    return {
        f"{name}_flops": choose(flops, {"one_for_two": flops / 2} | alone),
        f"{name}_bytes": choose(moved, fewer),
        f"{name}_intensity": choose(flops / moved, by_bytes | by_flops | {"inverted": moved / flops}),
        f"{name}_bound": Answer(waits, {"bound_swapped": "memory" if waits == "compute" else "compute"}),
        f"{name}_ms": choose(float(max(times)), {"shorter_time": float(min(times)), "times_added": float(sum(times)),
                                                 "seconds_for_ms": float(max(times)) / 1000}),
    }  # fmt: skip


def fed_again(case: Case) -> int:
    """FLOPs of feeding the whole context."""
    return run(case.model, case.context).prefill.flops("causal")


def choose(right: int | float, near: dict[str, Any], within: float = NEAR) -> Answer:
    """The right answer, and the wrong ones that differ from it and from each other."""
    kept: dict[str, Any] = {}
    for id, wrong in near.items():
        if not any(Answer(one, {}, within).accepts(wrong) for one in (right, *kept.values())):
            kept[id] = wrong
    return Answer(right, kept, within)


def answer_saved(n: int) -> dict[str, Answer]:
    """The score cells that a cache saves in n steps of one token, in percent: of the last step, and of all."""
    found = cost(GPT2, prompt=1, new=n)
    sides = found.cached, found.uncached
    last = [side.count.step(n).by("kind")["scores"].macs for side in sides]
    whole = [side.count.by("kind")["scores"].macs for side in sides]
    in_last, in_all = (100 * (1 - cached / without) for cached, without in (last, whole))
    return {
        "saved_last_step": choose(in_last, {"run_for_last_step": in_all, **misread(in_last)}, EXACT),
        "saved_whole_run": choose(in_all, {"last_step_for_run": in_last, **misread(in_all)}, EXACT),
    }


def misread(percent: float) -> dict[str, float]:
    """A percentage in other forms."""
    return {"rest_for_saved": 100 - percent, "share_for_percent": percent / 100}


def answer_gpt2() -> Answer:
    """The least milliseconds of one step of GPT-2 in float32 on a T4; its cache is a small part of the bytes."""
    step = cost(GPT2, prompt=1, new=2, dtype="float32").cached
    limits = limits_of(find_device(T4), "float32")
    seconds = step.bounds(limits, "causal")[1].seconds
    arithmetic = step.decode.flops("causal") / limits.peak
    right = float(seconds) * 1000
    return choose(right, {"half_precision_assumed": right / 2, "shorter_time": 1000 * arithmetic,
                          "seconds_for_ms": right / 1000, "numbers_for_bytes": right / 4})  # fmt: skip
