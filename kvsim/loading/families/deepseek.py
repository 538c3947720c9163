"""DeepSeek-V2 and V3 (arXiv:2405.04434, 2412.19437): latent attention, mixtures with a shared expert.

V3 stores rotary pairs adjacent and computes with halves; the rows are reordered when they are read, so that cached
keys equal transformers' number for number.
"""

import math
from dataclasses import replace
from typing import Any

from kvsim.config import Config, Experts, Latent, LayerKind
from kvsim.errors import Words
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, read_rope, rope_facts
from kvsim.loading.families.llama import INSIDE, OUTSIDE, PREFIX
from kvsim.loading.sources import Names, Source, is_part

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
IGNORED = ("*.rotary_emb.inv_freq",)
LATENT = {
    "query_down": "self_attn.q_a_proj",
    "query_norm": "self_attn.q_a_layernorm",
    "latent": "self_attn.kv_a_proj_with_mqa",
    "latent_norm": "self_attn.kv_a_layernorm",
    "expand": "self_attn.kv_b_proj",
    "router": "mlp.gate",
    "correction": "mlp.gate.e_score_correction_bias",
    "experts.*.gate": "mlp.experts.*.gate_proj",
    "experts.*.up": "mlp.experts.*.up_proj",
    "experts.*.down": "mlp.experts.*.down_proj",
    "shared.gate": "mlp.shared_experts.gate_proj",
    "shared.up": "mlp.shared_experts.up_proj",
    "shared.down": "mlp.shared_experts.down_proj",
}
NAMES = Names("model.layers", INSIDE | LATENT, OUTSIDE)
LOW_RANK = Names("model.layers", INSIDE | LATENT | {"query": "self_attn.q_b_proj"}, OUTSIDE)


def read_experts(facts: Facts, third: bool) -> Experts:
    """The mixture of experts of the layers that have one."""
    count = facts.size("n_routed_experts")
    d_ff = facts.size("moe_intermediate_size")
    method = {"greedy": False, "group_limited_greedy": True, "noaux_tc": True}
    grouped = third or facts.choice("topk_method", method)
    groups = facts.size("n_group") if grouped else 1
    if count % groups:
        raise facts.wrong("n_group", groups, f"{count} (n_routed_experts) / n")
    chosen = facts.at_most("num_experts_per_tok", count)
    kept = facts.at_most("topk_group", groups) if grouped else 1
    if kept * (count // groups) < chosen or (third and count // groups < 2):
        raise facts.wrong("topk_group", kept, Words("groups with enough experts to choose from"))
    return Experts(
        count,
        chosen,
        d_ff,
        router="sigmoid" if third else "softmax",
        # V2's transformers code reads norm_topk_prob and does not use it.
        normalize=facts.flag("norm_topk_prob") if third else False,
        scale=facts.number("routed_scaling_factor"),
        groups=groups,
        kept_groups=kept,
        group_score="best_two" if third else "best",
        correction=third,
        d_shared=d_ff * facts.size("n_shared_experts"),
    )


def score_scale(facts: Facts, size: int) -> float:
    """1/√size, and YaRN's correction where the rotary positions are stretched."""
    rope = rope_facts(facts)
    all_dims = rope.number_or_none("mscale_all_dim")
    if rope.value("rope_type") == "default" or all_dims is None:
        return float(size**-0.5)
    factor = rope.number("factor")
    magnitude = 0.1 * all_dims * math.log(factor) + 1.0 if factor > 1 else 1.0
    return float(size**-0.5 * magnitude * magnitude)


def config(facts: Facts) -> Config:
    family = facts.family
    third = family == "deepseek_v3"
    n_layers = facts.layers("num_hidden_layers")
    nope, rotary = facts.size("qk_nope_head_dim"), facts.size("qk_rope_head_dim")
    q_rank = facts.size("q_lora_rank") if facts.given("q_lora_rank") else None
    rope = read_rope(facts, rotary, pairs="halves" if third else "adjacent")
    if third and facts.flag("rope_interleave"):
        rope = replace(rope, reordered=True)
    dense = facts.index("first_k_dense_replace", what=Words("a number of layers"))
    facts.only("moe_layer_freq", 1)
    facts.only("mlp_bias", False)
    experts = read_experts(facts, third) if dense < n_layers else None
    scale = score_scale(facts, nope + rotary)
    mixed = LayerKind(rope, scale=scale, experts=experts)
    kinds = tuple(replace(mixed, experts=None) if i < dense else mixed for i in range(n_layers))
    n_heads, bias = facts.size("num_attention_heads"), facts.flag("attention_bias")
    return Config(
        family=family,
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_position_embeddings"),
        n_layers=n_layers,
        d_model=facts.size("hidden_size"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=facts.size("v_head_dim"),
        d_ff=facts.size("intermediate_size"),
        norm="rms",
        norm_eps=facts.number("rms_norm_eps"),
        activation=facts.choice("hidden_act", ACTIVATIONS),
        gated=True,
        layers=kinds,
        latent=Latent(facts.size("kv_lora_rank"), q_rank, nope, rotary, facts.size("v_head_dim"), norm_eps=1e-6),
        qkv_bias=bias,
        out_bias=bias,
        tied_head=facts.flag("tie_word_embeddings"),
    )


def neighbours_to_halves(tensor: Any, heads: int, before: int, rotary: int) -> Any:
    """Rows of `heads` heads with the last `rotary` of each from (0, 1, 2, 3 ..) to (0, 2, .. 1, 3 ..)."""
    order = [*range(before), *range(before, before + rotary, 2), *range(before + 1, before + rotary, 2)]
    split = tensor.reshape(heads, before + rotary, *tensor.shape[1:])
    return split.take(order, axis=1).reshape(tensor.shape)


def tensor(name: str, config: Config) -> Source:
    latent = config.latent
    assert latent is not None
    key = (LOW_RANK if latent.q_rank else NAMES).find(name)
    rope = config.layers[0].rope
    if rope is None or not rope.reordered:
        return Source(key)
    part = is_part(name, "query", "latent")
    if part == "query":
        return Source(key, None, lambda t: neighbours_to_halves(t, config.n_heads, latent.d_nope, latent.d_rope))
    if part == "latent":
        return Source(key, None, lambda t: neighbours_to_halves(t, 1, latent.rank, latent.d_rope))
    return Source(key)
