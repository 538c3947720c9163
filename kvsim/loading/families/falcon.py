"""Falcon (arXiv:2311.16867): the old decoder, multi-query or multi-head, and the new one with grouped queries;
attention and feed-forward in parallel or in sequence."""

from typing import Any

from kvsim.config import Alibi, Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, read_rope, same_layers
from kvsim.loading.sources import Names, Source, fused_groups, is_part

PREFIX = "transformer."
IGNORED = ("*.rotary_emb.inv_freq",)
INSIDE = {
    "attention_norm": "input_layernorm",
    "query": "self_attention.query_key_value",
    "key": "self_attention.query_key_value",
    "value": "self_attention.query_key_value",
    "output": "self_attention.dense",
    "ff_norm": "post_attention_layernorm",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}
OUTSIDE = {"tokens": "transformer.word_embeddings.weight", "final_norm": "transformer.ln_f", "head": "lm_head"}
NAMES = Names("transformer.h", INSIDE, OUTSIDE)
TWO_NORMS = Names("transformer.h", INSIDE | {"attention_norm": "ln_attn", "ff_norm": "ln_mlp"}, OUTSIDE)


def config(facts: Facts) -> Config:
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    if d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (num_attention_heads)")
    d_head = d_model // n_heads
    new = facts.flag("new_decoder_architecture")
    n_kv_heads = facts.size("num_kv_heads", n_heads) if new else 1 if facts.flag("multi_query") else n_heads
    if new:
        residual = "parallel_two" if facts.size("num_ln_in_parallel_attn", 2) == 2 else "parallel"
    else:
        residual = "parallel" if facts.flag("parallel_attn") else "pre"
    bias = facts.flag("bias")
    alibi = facts.flag("alibi")
    positions: dict[str, Any] = {"layers": same_layers(n_layers)}
    if alibi:
        positions["alibi"] = Alibi(n_heads, rounded=True, scale=d_head**-0.5)
    else:
        positions["layers"] = same_layers(n_layers, rope=read_rope(facts, d_head))
    return Config(
        family="falcon",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_position_embeddings"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        d_ff=facts.size("ffn_hidden_size", 4 * d_model),
        norm="layer",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation=facts.choice("activation", ACTIVATIONS),
        gated=False,
        residual=residual,  # type: ignore[arg-type]
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=bias,
        tied_head=facts.flag("tie_word_embeddings"),
        **positions,
    )


def tensor(name: str, config: Config) -> Source:
    names = TWO_NORMS if config.residual == "parallel_two" else NAMES
    fused = is_part(name, "query", "key", "value")
    if fused is None:
        return Source(names.find(name))
    return fused_groups(names.find(name), fused, config, bias=name.endswith("bias"))
