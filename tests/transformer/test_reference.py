"""Against transformers' own results, frozen in tests/fixtures: logits, caches, insides, FLOPs, ids."""

from pathlib import Path

import numpy as np
import pytest

import kvsim

FOLDER = Path(__file__).parent.parent / "fixtures"
NAMES = ("gpt2", "llama_mha")
# f64 is the mathematical reference; in float32 transformers and kvsim round differently.
ALLOWED = {"float64": 1e-12, "float32": 5e-6}  # of max|logit|
PREFIX = {"float64": "f64", "float32": "f32"}


@pytest.fixture(scope="module", params=[(n, d, b) for n in NAMES for d in ALLOWED for b in (0, 1)], ids=str)
def case(request):
    name, dtype, row = request.param
    expected = np.load(FOLDER / name / "expected.npz", allow_pickle=False)
    return kvsim.load(FOLDER / name, dtype=dtype), dtype, expected, row


def close(got, expected, dtype, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= ALLOWED[dtype] * scale


def test_logits_and_cache(case):
    model, dtype, expected, row = case
    prefix = PREFIX[dtype]
    ids = expected["inputs/input_ids"][row].tolist()
    close(model(ids), expected[f"{prefix}/logits_full"][row], dtype)
    cache = model.new_cache("dynamic")
    close(model(ids[:7], cache), expected[f"{prefix}/logits_prefill"][row], dtype)
    close(np.concatenate([model([i], cache) for i in ids[7:]]), expected[f"{prefix}/logits_decode"][row], dtype)
    assert cache.seen == 12
    for i, layer in enumerate(cache.layers):
        close(layer.keys, expected[f"{prefix}/cache/{i}/key"][row], dtype)
        close(layer.values, expected[f"{prefix}/cache/{i}/value"][row], dtype)


def test_insides(case):
    model, dtype, expected, row = case
    with model.watch("layers.*.probs", "layers.*.hidden", "embedding", "final") as seen:
        model(expected["inputs/input_ids"][row].tolist())
    last = model.config.n_layers
    for i in range(last):
        probs = seen[f"layers.{i}.probs"]
        close(probs.reshape(-1, *probs.shape[2:]), expected[f"f64/attention/{i}"][row], dtype, scale=1.0)
    hidden = [seen["embedding"], *(seen[f"layers.{i}.hidden"] for i in range(last - 1)), seen["final"]]
    for i, got in enumerate(hidden):
        close(got, expected[f"f64/hidden/{i}"][row], dtype)


def test_flops_are_those_of_torchs_counter(case):
    """FlopCounterMode counted both sequences: exactly twice one of them."""
    model, _, expected, row = case
    ids = expected["inputs/input_ids"][row].tolist()
    with model.count() as full:
        model(ids)
    assert 2 * full.flops == expected["flops/full/total"]
    cache = model.new_cache("dynamic")
    with model.count() as prefill:
        model(ids[:7], cache)
    assert 2 * prefill.flops == expected["flops/prefill/total"]
    for token, flops in zip(ids[7:], expected["flops/decode_steps"], strict=True):
        with model.count() as step:
            model([token], cache)
        assert 2 * step.flops == flops


def test_greedy_ids(case):
    model, _, expected, row = case
    prompt = int(expected["greedy/prompt_len"])
    ids = expected["greedy/ids"][row].tolist()
    for cache in ("dynamic", "none", "static:64"):
        run = kvsim.generate(model, ids[:prompt], len(ids) - prompt, cache=cache)
        assert run.ids == ids
        assert run.text is None


def test_padded_rows_run_alone(case):
    """A left-padded row of the reference batch is its real tokens by themselves."""
    model, dtype, expected, _ = case
    real = expected["padded/attention_mask"][1].astype(bool)
    ids = expected["padded/input_ids"][1][real].tolist()
    close(model(ids), expected["padded/logits_f64"][1][real], dtype)
