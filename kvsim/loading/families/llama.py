"""Llama (arXiv:2302.13971) and its near relatives: RMSNorm, rotary positions, SwiGLU.

mistral   a sliding window
qwen2     biases on query, key and value; windows in some layers
qwen3     query and key normalised head by head
smollm3   no positions in every fourth layer
"""

from typing import Any

from kvsim.config import Config, LayerKind, Rope
from kvsim.errors import Words
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, head_size, layer_types, read_rope
from kvsim.loading.sources import Names, Source

PREFIX = "model."
IGNORED = ("*.rotary_emb.inv_freq",)  # a table that older versions saved
KV_HEADS = {"mistral": 8, "mixtral": 8}  # where a config.json has no num_key_value_heads
PARTIAL = {"phi3": 1.0}  # families that may turn a part of each head
THETA = {"smollm3": 2000000.0}
INSIDE = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "ff_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
OUTSIDE = {"tokens": "model.embed_tokens.weight", "final_norm": "model.norm", "head": "lm_head"}
NAMES = Names("model.layers", INSIDE, OUTSIDE)


def windows(facts: Facts, n_layers: int) -> list[int | None]:
    """The sliding window of each layer."""
    family = facts.fields.get("model_type")
    if facts.fields.get("sliding_window") is None or family == "llama":
        return [None] * n_layers
    if family == "mistral":
        return [facts.size("sliding_window")] * n_layers
    if not facts.flag("use_sliding_window", False):
        return [None] * n_layers
    full, sliding = "full_attention", "sliding_attention"
    if family == "smollm3":
        default = [full if has else sliding for has in rotary_layers(facts, n_layers)]
    else:
        first = facts.fields.get("max_window_layers", 28)
        default = [sliding if i >= first else full for i in range(n_layers)]
    types = layer_types(facts, n_layers, default)
    return [facts.size("sliding_window") if t == sliding else None for t in types]


def rotary_layers(facts: Facts, n_layers: int) -> list[bool]:
    """Which layers know positions: all, but in smollm3."""
    if facts.fields.get("model_type") != "smollm3":
        return [True] * n_layers
    given = facts.fields.get("no_rope_layers")
    if given is None:
        every = facts.size("no_rope_layer_interval", 4)
        return [(i + 1) % every != 0 for i in range(n_layers)]
    if not isinstance(given, list) or len(given) != n_layers or any(g not in (0, 1) for g in given):
        raise facts.wrong("no_rope_layers", given, Words("0 or 1 for each layer"))
    return [bool(g) for g in given]


def context_of(facts: Facts, rope: Rope) -> int:
    """Positions the model was made for; dynamic NTK stretches what is written there by its factor."""
    written = facts.size("max_position_embeddings")
    return int(written * rope.factor) if rope.kind == "dynamic" else written


def base(facts: Facts, **changes: Any) -> Config:
    """What all of this kind share, with `changes`."""
    family = facts.fields["model_type"]
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    d_head = head_size(facts, d_model, n_heads)
    rope = read_rope(facts, d_head, theta=THETA.get(family, 10000.0), partial=PARTIAL.get(family))
    kinds = [
        LayerKind(rope=rope if has else None, window=window)
        for has, window in zip(rotary_layers(facts, n_layers), windows(facts, n_layers), strict=True)
    ]
    bias = facts.flag("attention_bias", False)
    fields: dict[str, Any] = {
        "family": family,
        "vocab_size": facts.size("vocab_size"),
        "max_context": context_of(facts, rope),
        "n_layers": n_layers,
        "d_model": d_model,
        "n_heads": n_heads,
        "n_kv_heads": facts.size("num_key_value_heads", KV_HEADS.get(family, n_heads)),
        "d_head": d_head,
        "d_ff": facts.size("intermediate_size"),
        "norm": "rms",
        "norm_eps": facts.number("rms_norm_eps"),
        "activation": facts.choice("hidden_act", ACTIVATIONS),
        "gated": True,
        "layers": tuple(kinds),
        "qkv_bias": bias,
        "out_bias": bias,
        "ff_bias": facts.flag("mlp_bias", False),
        "tied_head": facts.flag("tie_word_embeddings", family in ("smollm3",)),
    }
    return Config(**{**fields, **changes})


def config(facts: Facts) -> Config:
    family = facts.fields["model_type"]
    if family == "qwen2":
        return base(facts, qkv_bias=True, out_bias=False, ff_bias=False)
    if family == "qwen3":
        return base(facts, qk_norm="head")
    if family == "mistral":
        return base(facts, qkv_bias=False, out_bias=False, ff_bias=False)
    return base(facts)


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
