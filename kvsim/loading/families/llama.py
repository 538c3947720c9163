"""Llama (arXiv:2302.13971, transformers' LlamaForCausalLM): RMSNorm, rotary positions, SwiGLU."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families import Source

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu"}
IGNORED = ("*.rotary_emb.inv_freq",)  # a table that older versions saved
_NAMES = {
    "attention_norm.gain": "input_layernorm.weight",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "ff_norm.gain": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_OUTSIDE = {
    "tokens": "model.embed_tokens.weight",
    "final_norm.gain": "model.norm.weight",
    "head.weight": "lm_head.weight",
}


def rope_theta(facts: Facts) -> float:
    """The rotary base, from `rope_parameters` (transformers 5) or the top level (before)."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = Facts(facts.path, facts.table(key))
        for kind in ("rope_type", "type"):
            rope.only(kind, "default")
    rope = Facts(facts.path, facts.table("rope_parameters"))
    rope.only("partial_rotary_factor", 1.0)
    facts.only("partial_rotary_factor", 1.0)
    return rope.number("rope_theta", facts.number("rope_theta", 10000.0))


def config(facts: Facts) -> Config:
    n_heads = facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    if facts.fields.get("head_dim") is None and d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (num_attention_heads), / head_dim")
    bias = facts.flag("attention_bias", False)
    return Config(
        family="llama",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_position_embeddings"),
        n_layers=facts.size("num_hidden_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=facts.size("num_key_value_heads", n_heads),
        d_head=facts.size("head_dim", d_model // n_heads),
        d_ff=facts.size("intermediate_size"),
        norm="rms",
        norm_eps=facts.number("rms_norm_eps"),
        activation=facts.choice("hidden_act", ACTIVATIONS),
        gated=True,
        positions="rope",
        rope_theta=rope_theta(facts),
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=facts.flag("mlp_bias", False),
        tied_head=facts.flag("tie_word_embeddings", False),
    )


def tensor(name: str, config: Config) -> Source:
    if name in _OUTSIDE:
        return Source(_OUTSIDE[name])
    _, layer, place = name.split(".", 2)
    if place in _NAMES:
        return Source(f"model.layers.{layer}.{_NAMES[place]}")
    part, _, kind = place.rpartition(".")
    return Source(f"model.layers.{layer}.{_NAMES[part]}.{kind}")
