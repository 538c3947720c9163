"""Gemma 1 to 3 (arXiv:2403.08295, 2408.00118, 2503.19786): norms scale by 1 + w, embeddings by √D.

gemma2        norms before and after each half, caps on scores and logits, every other layer a window
gemma3_text   query and key normalised head by head, five windows to one full layer, two rotary bases
"""

import math

from kvsim.config import Config, LayerKind, Rope
from kvsim.errors import Words
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, layer_types, read_rope
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
    third = facts.fields["model_type"] == "gemma3_text"
    every = facts.size("sliding_window_pattern", 6) if third else 2
    default = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(n_layers)]
    types = layer_types(facts, n_layers, default)
    scale = facts.number("query_pre_attn_scalar", 256.0) ** -0.5
    window = facts.size("sliding_window", 4096)
    local_base = facts.number("rope_local_base_freq", 10000.0)
    ropes = {
        "full_attention": read_rope(facts, d_head, theta=1e6 if third else 1e4, layer_type="full_attention"),
        "sliding_attention": local_rope(facts, d_head, local_base) if third else read_rope(facts, d_head),
    }
    windows = {"full_attention": None, "sliding_attention": window}
    return tuple(LayerKind(rope=ropes[t], window=windows[t], scale=scale) for t in types)


def local_rope(facts: Facts, d_head: int, theta: float) -> Rope:
    """Gemma 3's windows turn by a base of their own, never scaled: a table beside the other, or (before
    transformers 5) `rope_local_base_freq`."""
    table = facts.table("rope_parameters")
    if table and "sliding_attention" not in table:
        raise facts.wrong("rope_parameters", table, Words("a table for each type of layer"))
    if table:
        return read_rope(facts, d_head, theta=theta, layer_type="sliding_attention")
    return read_rope(Facts(facts.path, {"rope_theta": theta}), d_head)


def config(facts: Facts) -> Config:
    family = facts.fields["model_type"]
    facts.only("use_bidirectional_attention", False)
    # Gemma's code reads hidden_act, and takes the first configs' "gelu" for the tanh form that they meant.
    key = "hidden_act" if family == "gemma" else "hidden_activation"
    activation = facts.choice(key, ACTIVATIONS, "gelu_pytorch_tanh")
    if family == "gemma" and activation == "gelu":
        activation = "gelu_tanh"
    facts.fields["hidden_act"] = "gelu_pytorch_tanh"  # what the shared reader asks for
    changes = {
        "activation": activation,
        "embedding_scale": math.sqrt(facts.size("hidden_size")),
        "tied_head": facts.flag("tie_word_embeddings", True),
        "ff_bias": False,
    }
    plain = base(facts, **changes)
    if family == "gemma":
        return plain
    if family == "gemma2":  # a cap that is not written is the class's own; null is none
        facts.fields.setdefault("attn_logit_softcapping", 50.0)
        facts.fields.setdefault("final_logit_softcapping", 30.0)
    score_cap, logit_cap = (facts.fields.get(f"{name}_softcapping") for name in ("attn_logit", "final_logit"))
    if family == "gemma3_text":
        score_cap = None  # its code stores the cap and does not use it
    return base(
        facts,
        **changes,
        layers=kinds(facts, plain.n_layers, plain.d_head),
        residual="sandwich",
        qk_norm="head" if family == "gemma3_text" else None,
        score_cap=facts.number("attn_logit_softcapping") if score_cap else None,
        logit_cap=facts.number("final_logit_softcapping") if logit_cap else None,
    )


def tensor(name: str, config: Config) -> Source:
    key = (NAMES if config.family == "gemma" else SANDWICH).find(name)
    return Source(key, plus=1.0) if name.endswith(".gain") else Source(key)
