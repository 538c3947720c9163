"""Phi-1 and Phi-2 (arXiv:2306.11644): parallel attention and feed-forward after one LayerNorm, rotary
on a part of each head, biases everywhere, the head included."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, head_size, read_rope, same_layers
from kvsim.loading.sources import Names, Source

PREFIX = "model."
IGNORED = ("*.rotary_emb.inv_freq",)
INSIDE = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.dense",
    "query_norm": "self_attn.q_layernorm",
    "key_norm": "self_attn.k_layernorm",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
OUTSIDE = {"tokens": "model.embed_tokens.weight", "final_norm": "model.final_layernorm", "head": "lm_head"}
NAMES = Names("model.layers", INSIDE, OUTSIDE)


def config(facts: Facts) -> Config:
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    d_head = head_size(facts, d_model, n_heads)
    normed = facts.flag("qk_layernorm")
    return Config(
        family="phi",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_position_embeddings"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=facts.size("num_key_value_heads", n_heads),
        d_head=d_head,
        d_ff=facts.size("intermediate_size"),
        norm="layer",
        norm_eps=facts.number("layer_norm_eps"),
        activation=facts.choice("hidden_act", ACTIVATIONS),
        gated=False,
        layers=same_layers(n_layers, rope=read_rope(facts, d_head, partial="partial_rotary_factor")),
        residual="parallel",
        qk_norm="head" if normed else None,
        qk_norm_bias=normed,
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings"),
        head_bias=True,
    )


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
