"""transformers' GPT-2 (random weights) under the oracle: with its own cache, and with one that does not append."""

import tempfile

import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

import kvsim
from kvsim import testing

torch.manual_seed(0)
config = GPT2Config(vocab_size=53, n_positions=64, n_embd=24, n_layer=2, n_head=4, initializer_range=0.4)
model = GPT2LMHeadModel(config).eval()
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    reference = kvsim.load(folder)


class Forgetful(DynamicCache):
    """Decode steps attend to their own key and value without storing them."""

    def update(self, keys, values, layer_idx, *args, **kwargs):
        if len(self.layers) <= layer_idx or keys.shape[2] > 1:
            return super().update(keys, values, layer_idx, *args, **kwargs)
        layer = self.layers[layer_idx]
        return torch.cat([layer.keys, keys], dim=2), torch.cat([layer.values, values], dim=2)


class State:
    """A cache and the number of tokens fed, from which `step` passes positions: only the cache is under test."""

    def __init__(self, cache):
        self.cache, self.seen, self.hidden = cache, 0, ()


def step(state, ids):
    positions = torch.arange(state.seen, state.seen + len(ids))[None]
    state.seen += len(ids)
    with torch.no_grad():
        made = model(
            torch.tensor([ids]), past_key_values=state.cache, position_ids=positions, use_cache=True,
            output_hidden_states=True,
        )  # fmt: skip
    state.hidden = made.hidden_states
    return made.logits[0]


def layers(state):
    """The outputs of all layers but the last: transformers returns the embedding, each layer's output, and the last's
    only after the final norm."""
    return [hidden[0] for hidden in state.hidden[1:-1]]


testing.assert_split_invariant(lambda: State(DynamicCache()), step, reference)
print("with its own cache: correct")
try:
    testing.assert_split_invariant(lambda: State(Forgetful()), step, reference, layers=layers)
except testing.OracleError as error:
    print(error)
    named = error.facts["diagnosis"]
assert named == ["decode_does_not_append"]
