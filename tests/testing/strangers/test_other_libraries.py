"""transformers' caches and attention under the oracle: accepted as they are, diagnosed where a subclass is wrong."""

import pytest

import kvsim
from kvsim import testing
from kvsim.testing import OracleError

pytestmark = pytest.mark.dev

SIZES = {"vocab_size": 53, "n_positions": 64, "n_embd": 24, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """transformers' GPT-2 with random weights, and the same model in kvsim."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SIZES)).eval()
    folder = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(folder)
    return model, kvsim.load(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """transformers' Llama with the weights of kvsim.testing: rotary positions and grouped queries."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    weights = testing.weights(dtype="float32")
    c = weights.config
    config = LlamaConfig(
        vocab_size=c.vocab, hidden_size=c.d_model, intermediate_size=c.d_ff, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.d_head, rms_norm_eps=c.norm_eps,
        rope_theta=c.rope_theta, max_position_embeddings=c.context, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return model, weights


class State:
    """A cache and the number of tokens fed, from which `step` passes positions: only the cache is under test."""

    def __init__(self, cache):
        self.cache, self.seen = cache, 0


def stepper(model):
    import torch

    def step(state, ids):
        positions = torch.arange(state.seen, state.seen + len(ids))[None]
        state.seen += len(ids)
        with torch.no_grad():
            made = model(torch.tensor([ids]), past_key_values=state.cache, position_ids=positions, use_cache=True)
        return made.logits[0]

    return step


def caches():
    """{name: function from a model to a new cache of it}."""
    from transformers import DynamicCache, StaticCache

    return {
        "DynamicCache": lambda model: DynamicCache(),
        "DynamicCache of a config": lambda model: DynamicCache(config=model.config),
        "StaticCache": lambda model: StaticCache(config=model.config, max_cache_len=64),
    }


NAMES = ("DynamicCache", "DynamicCache of a config", "StaticCache")


@pytest.mark.parametrize("cache", NAMES)
@pytest.mark.parametrize("which", ["gpt2", "llama"])
def test_transformers_caches_are_accepted(which, cache, request):
    model, reference = request.getfixturevalue(which)
    testing.assert_split_invariant(lambda: State(caches()[cache](model)), stepper(model), reference, cases=4)


@pytest.mark.parametrize("which", ["gpt2", "llama"])
def test_a_dynamic_cache_that_does_not_append_is_diagnosed(which, request):
    import torch
    from transformers import DynamicCache

    class Forgetful(DynamicCache):
        """A decode step attends to its own key and value without storing them."""

        def update(self, keys, values, layer_idx, *args, **kwargs):
            if len(self.layers) <= layer_idx or keys.shape[2] > 1:
                return super().update(keys, values, layer_idx, *args, **kwargs)
            layer = self.layers[layer_idx]
            return torch.cat([layer.keys, keys], dim=2), torch.cat([layer.values, values], dim=2)

    model, reference = request.getfixturevalue(which)
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(lambda: State(Forgetful()), stepper(model), reference)
    assert caught.value.facts["diagnosis"] == ["decode_does_not_append"]
    assert caught.value.facts["smallest"] == [1, 1, 1]


@pytest.mark.parametrize("which", ["gpt2", "llama"])
def test_a_static_cache_that_is_not_reset_is_diagnosed(which, request):
    """One cache for all texts, as in compiled code that allocates it once."""
    from transformers import StaticCache

    model, reference = request.getfixturevalue(which)
    cache = StaticCache(config=model.config, max_cache_len=640)
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(lambda: State(cache), stepper(model), reference)
    assert caught.value.facts["diagnosis"] == ["cache_not_reset_between_prompts"]
    assert "after other texts: the same feed passed when it was the first" in str(caught.value)


@pytest.mark.parametrize("which", ["gpt2", "llama"])
def test_transformers_own_edits(which, request):
    """`crop` and `reorder_cache` of a dynamic cache in batches: accepted, diagnosed where they are used wrongly."""
    import copy

    import torch
    from transformers import DynamicCache

    model, reference = request.getfixturevalue(which)

    def step(state, rows):
        positions = torch.arange(state.seen, state.seen + len(rows[0]))[None].repeat(len(rows), 1)
        state.seen += len(rows[0])
        with torch.no_grad():
            return model(torch.tensor(rows), past_key_values=state.cache, position_ids=positions).logits

    def crop(state, length):
        state.cache.crop(length - state.seen)  # a number of tokens to remove, as a negative one
        state.seen = length

    def reorder(state, order):
        state.cache.reorder_cache(torch.tensor(order))

    more = {"fork": copy.deepcopy, "batched": True}
    testing.assert_edits(lambda: State(DynamicCache()), step, reference, crop=crop, reorder=reorder, **more)
    with pytest.raises(OracleError) as caught:
        testing.assert_edits(lambda: State(DynamicCache()), step, reference, reorder=lambda state, order: None, **more)
    assert caught.value.facts["diagnosis"] == ["reorder_not_done"]
