"""Gemma 1 to 3 (arXiv:2403.08295, 2408.00118, 2503.19786): norms scale by 1 + w, embeddings by √D.

gemma2        norms before and after each half, caps on scores and logits, every other layer a window
gemma3_text   query and key normalised head by head, five windows to one full layer, two rotary bases
"""

import math

from kvsim.config import Config, LayerKind, Rope
from kvsim.errors import Words
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, head_size, layer_types, read_rope
from kvsim.loading.families.llama import IGNORED, INSIDE, OUTSIDE, PREFIX, base
from kvsim.loading.sources import Names, Source

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
NAMES = Names("model.layers", INSIDE, OUTSIDE)
SANDWICH = Names(
    "model.layers",
    INSIDE
    | {
        "attention_branch_norm": "post_attention_layernorm",
        "ff_norm": "pre_feedforward_layernorm",
        "ff_branch_norm": "post_feedforward_layernorm",
    },
    OUTSIDE,
)


def kinds(facts: Facts, n_layers: int, d_head: int) -> tuple[LayerKind, ...]:
    """Windows and rotary bases, layer by layer."""
    types = layer_types(facts, n_layers, alternate(facts, n_layers))
    scale = facts.number("query_pre_attn_scalar") ** -0.5
    third = facts.family == "gemma3_text"
    made = {}
    for kind in dict.fromkeys(types):
        window = facts.size("sliding_window") if kind == "sliding_attention" else None
        rope = read_local_or_global(facts, d_head, kind) if third else read_rope(facts, d_head, layer_type=kind)
        made[kind] = LayerKind(rope=rope, window=window, scale=scale)
    return tuple(made[kind] for kind in types)


def alternate(facts: Facts, n_layers: int) -> list[str] | None:
    """The default layer types: every second layer full (Gemma 2), or every sixth (Gemma 3); None if `layer_types` is
    given."""
    if facts.given("layer_types"):
        return None
    every = facts.size("sliding_window_pattern") if facts.family == "gemma3_text" else 2
    return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(n_layers)]


def read_local_or_global(facts: Facts, d_head: int, layer_type: str) -> Rope:
    """The rotary base of Gemma 3's windowed layers, which is never scaled: a table of its own, or (before
    transformers 5) `rope_local_base_freq`."""
    table, theta = facts.table("rope_parameters"), "rope_theta"
    if not set(table) <= {"full_attention", "sliding_attention"}:
        raise facts.wrong("rope_parameters", table, Words("a table for each type of layer"))
    if layer_type == "sliding_attention":
        theta = "rope_local_base_freq"
        facts = facts.changed(rope_scaling=None)
    if table.get(layer_type) is None:
        facts = facts.changed(rope_parameters={})
    return read_rope(facts, d_head, theta=theta, layer_type=layer_type)


def config(facts: Facts) -> Config:
    family = facts.family
    facts.only("use_bidirectional_attention", False)
    # Gemma's code reads hidden_act, and reads the first configs' "gelu" as the tanh form.
    key = "hidden_act" if family == "gemma" else "hidden_activation"
    activation = facts.choice(key, ACTIVATIONS)
    if family == "gemma" and activation == "gelu":
        activation = "gelu_tanh"
    changes = {
        "activation": activation,
        "embedding_scale": math.sqrt(facts.size("hidden_size")),
        "tied_head": facts.flag("tie_word_embeddings"),
        "ff_bias": False,
    }
    if family == "gemma":
        return base(facts, **changes)
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_head = head_size(facts, facts.size("hidden_size"), n_heads)
    return base(
        facts,
        **changes,
        layers=kinds(facts, n_layers, d_head),
        residual="sandwich",
        qk_norm="head" if family == "gemma3_text" else None,
        # Gemma 3's code stores the scores' cap and does not use it.
        score_cap=facts.number_or_none("attn_logit_softcapping") if family == "gemma2" else None,
        logit_cap=facts.number_or_none("final_logit_softcapping"),
    )


def tensor(name: str, config: Config) -> Source:
    key = (NAMES if config.family == "gemma" else SANDWICH).find(name)
    return Source(key, plus=1.0) if name.endswith(".gain") else Source(key)
