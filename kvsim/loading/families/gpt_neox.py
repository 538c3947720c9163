"""GPT-NeoX and Pythia (arXiv:2204.06745): parallel attention and feed-forward with a norm each, rotary on a part of
each head."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, read_rope, same_layers
from kvsim.loading.sources import Names, Source, fused_groups, is_part

PREFIX = "gpt_neox."
IGNORED = ("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq")
INSIDE = {
    "attention_norm": "input_layernorm",
    "query": "attention.query_key_value",
    "key": "attention.query_key_value",
    "value": "attention.query_key_value",
    "output": "attention.dense",
    "ff_norm": "post_attention_layernorm",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}
OUTSIDE = {"tokens": "gpt_neox.embed_in.weight", "final_norm": "gpt_neox.final_layer_norm", "head": "embed_out"}
NAMES = Names("gpt_neox.layers", INSIDE, OUTSIDE)


def config(facts: Facts) -> Config:
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    if d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (num_attention_heads)")
    d_head = d_model // n_heads
    rope = read_rope(facts, d_head, theta="rotary_emb_base", partial="rotary_pct")
    bias = facts.flag("attention_bias")
    return Config(
        family="gpt_neox",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_position_embeddings"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_head,
        d_ff=facts.size("intermediate_size"),
        norm="layer",
        norm_eps=facts.number("layer_norm_eps"),
        activation=facts.choice("hidden_act", ACTIVATIONS),
        gated=False,
        layers=same_layers(n_layers, rope=rope),
        residual="parallel_two" if facts.flag("use_parallel_residual") else "pre",
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings"),
    )


def tensor(name: str, config: Config) -> Source:
    fused = is_part(name, "query", "key", "value")
    if fused is None:
        return Source(NAMES.find(name))
    return fused_groups(NAMES.find(name), fused, config, bias=name.endswith("bias"))
