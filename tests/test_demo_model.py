"""The bundled demo model: shape, vocabulary, the text that it reproduces."""

import json
from pathlib import Path

import pytest

import kvsim
from kvsim.loading.places import BUNDLED
from tests.models import demo

TEXT = (Path(__file__).parent.parent / "examples" / "demo_text.txt").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
FOUNDING = "中华人民共和国成立于1949年"
DTYPES = ["float32", "float64"]


def test_its_shape():
    config = demo().config
    assert (config.family, config.n_layers, config.n_heads, config.n_kv_heads, config.d_head) == ("llama", 2, 4, 2, 16)
    assert config.max_context >= 1024
    assert sum(file.stat().st_size for file in BUNDLED["demo"].iterdir()) < 1_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {f.name for f in BUNDLED["demo"].iterdir()}


def test_its_vocabulary_is_the_texts_characters():
    vocab = json.loads((BUNDLED["demo"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert set(vocab) == set(TEXT) | {"<unk>"}
    assert sorted(vocab.values()) == list(range(demo().config.vocab_size))


def test_every_line_with_the_first_character_starts_with_the_example():
    """Then the model's choice after each character of the prompt is the prompt's next character."""
    assert all(line.startswith(FOUNDING) for line in LINES if line.startswith("中"))
    assert any(line.startswith("中") for line in LINES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cache", ["none", "dynamic"])
def test_it_continues_the_example(dtype, cache):
    run = kvsim.generate(demo(dtype), "中华人民", len(FOUNDING) - 4, cache=cache, feed="token")
    assert run.text == FOUNDING
    assert demo().tokenizer.decode([step.next for step in run.steps]) == FOUNDING[1:]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prompt", ["What is KV caching?", "The red cat was"])
def test_the_tutorials_prompts(prompt, dtype):
    (line,) = [line for line in LINES if line.startswith(prompt)]
    assert kvsim.generate(demo(dtype), prompt, 100, stop="\n").text == line + "\n"


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_knows_its_text(dtype):
    """Greedy decoding completes nine lines in ten from their first six characters. In float64, where the weights are
    the same, every eighth line is tried."""
    model, lines = demo(dtype), LINES if dtype == "float32" else LINES[::8]
    runs = kvsim.generate(model, [line[:6] for line in lines], 100, stop="\n", count=False)
    whole = sum(run.text == line + "\n" for run, line in zip(runs, lines, strict=True))
    assert whole >= 0.9 * len(lines)


def test_it_runs_to_the_end_of_its_context():
    run = kvsim.generate(demo(), "中", 1024, count=False)
    assert len(run.ids) == 1025


@pytest.mark.dev
def test_transformers_generates_the_same_text():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoModelForCausalLM.from_pretrained(BUNDLED["demo"])
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["demo"])
    for prompt in ("中华人民", "What is KV caching?", "The red cat was"):
        ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        assert ids["input_ids"][0].tolist() == demo().tokenizer.encode(prompt)
        with torch.no_grad():
            out = theirs.generate(**ids, max_new_tokens=60, do_sample=False)[0]
        ours = kvsim.generate(demo(), prompt, 60)
        assert out.tolist() == ours.ids
        assert tokenizer.decode(out) == ours.text
