"""Logits and FLOPs against transformers and torch, run here on tiny random models (extra dev)."""

import numpy as np
import pytest

import kvsim

pytestmark = pytest.mark.dev


def make_llama(tmp_path, kv_heads, **settings):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=53, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=kv_heads, head_dim=8, max_position_embeddings=64, **settings,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return randomise(LlamaForCausalLM(config).double().eval(), tmp_path)


def make_gpt2(tmp_path, **settings):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=53, n_embd=24, n_head=3, n_layer=2, n_positions=64, **settings)
    config._attn_implementation = "eager"
    return randomise(GPT2LMHeadModel(config).double().eval(), tmp_path)


def randomise(model, tmp_path):
    """The model with random noise added to every parameter, gains and biases included, saved in `tmp_path`."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    return model


CASES = {
    "llama-mha": lambda p: make_llama(p, 6),
    "llama-gqa-biases": lambda p: make_llama(p, 2, attention_bias=True, mlp_bias=True),
    "llama-mqa-tied": lambda p: make_llama(p, 1, tie_word_embeddings=True),
    "llama-gelu": lambda p: make_llama(p, 3, hidden_act="gelu"),
    "gpt2": make_gpt2,
    "gpt2-gelu-exact-inner": lambda p: make_gpt2(p, activation_function="gelu", n_inner=31),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_flops(name, tmp_path):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    theirs = CASES[name](tmp_path)
    ours = kvsim.load(tmp_path, dtype="float64")
    ids = [int(i) for i in np.random.default_rng(1).integers(0, 53, 11)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = theirs(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    with ours.count() as ledger:
        got = ours(ids)
    # transformers computes norm statistics and rotary angles in float32 even in a float64 model.
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    assert ledger.flops == counter.get_total_flops()


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_sixteen_bit_weights(stored, tmp_path):
    """Weights stored in 16 bits are converted to float64 without rounding."""
    import torch

    theirs = make_llama(tmp_path, 2).to(getattr(torch, stored))
    theirs.save_pretrained(tmp_path)
    ours = kvsim.load(tmp_path, dtype="float64")
    assert np.array_equal(ours.weights.tokens, theirs.model.embed_tokens.weight.detach().double().numpy())
    down = theirs.model.layers[1].mlp.down_proj.weight
    assert np.array_equal(ours.weights.layers[1].ff.down.weight, down.detach().double().numpy())
