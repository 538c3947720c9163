"""What several families' config.json files share."""

import math
from typing import Any

from kvsim.config import LayerKind, Rope
from kvsim.errors import Words
from kvsim.loading.facts import Facts

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
NO_LIMIT = 2**31 - 1  # the context of a model whose positions have no table that ends
ROPES = {"default": "default", "linear": "linear", "dynamic": "dynamic", "yarn": "yarn", "longrope": "longrope",
         "su": "longrope", "llama3": "llama3"}  # fmt: skip


# What transformers takes where a config.json has no head_dim; for the others, the width shared out evenly.
HEAD_SIZES = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "gpt_oss": 64, "qwen3": 128}


def head_size(facts: Facts, d_model: int, n_heads: int) -> int:
    """`head_dim`, or what the family has for it."""
    own = HEAD_SIZES.get(facts.fields.get("model_type", ""))
    if own is not None:
        return facts.size("head_dim", own)
    if facts.fields.get("head_dim") is None and d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (num_attention_heads), / head_dim")
    return facts.size("head_dim", d_model // n_heads)


def rope_facts(facts: Facts, layer_type: str | None = None) -> Facts:
    """The rotary fields in one place: `rope_parameters` (transformers 5; for some families one table for
    each type of layer), or `rope_scaling` and `rope_theta` (before)."""
    table, scaling = facts.table("rope_parameters"), facts.table("rope_scaling")
    if layer_type is not None and isinstance(table.get(layer_type), dict):
        merged = {**table[layer_type], **(scaling if layer_type == "full_attention" else {})}
    else:
        merged = dict(scaling or table)
    for key in ("rope_theta", "partial_rotary_factor"):
        if merged.get(key) is None and facts.fields.get(key) is not None:
            merged[key] = facts.fields[key]
    if facts.fields.get("original_max_position_embeddings") is not None:  # Phi's, above the table
        merged["original_max_position_embeddings"] = facts.fields["original_max_position_embeddings"]
    if merged.get("rope_type") is None and merged.get("type") is not None:
        merged["rope_type"] = merged["type"]
    return Facts(facts.path, merged)


def _magnitude(rope: Facts, kind: str, factor: float, original: int) -> float:
    """What cosine and sine are multiplied by: given, or as YaRN and LongRoPE define it."""
    if kind not in ("yarn", "longrope"):
        return 1.0
    if rope.fields.get("attention_factor") is not None:
        return rope.number("attention_factor")
    if factor <= 1.0:
        return 1.0
    if kind == "longrope":
        return math.sqrt(1 + math.log(factor) / math.log(original))
    scale, all_dims = rope.fields.get("mscale"), rope.fields.get("mscale_all_dim")
    if scale and all_dims:
        over, under = rope.number("mscale"), rope.number("mscale_all_dim")
        return (0.1 * over * math.log(factor) + 1.0) / (0.1 * under * math.log(factor) + 1.0)
    return 0.1 * math.log(factor) + 1.0


def read_rope(
    facts: Facts,
    d_head: int,
    *,
    theta: float = 10000.0,
    partial: float | None = None,
    pairs: Any = "halves",
    layer_type: str | None = None,
) -> Rope:
    """The rotary positions of a config.json for heads of `d_head`. `partial`: the part of a head that turns
    where nothing is written; None for a family that turns all of it. FileError: an unknown type."""
    rope = rope_facts(facts, layer_type)
    if partial is None:
        rope.only("partial_rotary_factor", 1.0)
    kind = rope.choice("rope_type", ROPES, "default")
    size = int(d_head * rope.number("partial_rotary_factor", partial or 1.0))
    if size < 2 or size % 2 or size > d_head:
        raise facts.wrong("head_dim · partial_rotary_factor", size, Words("an even number of rotary elements"))
    theta = rope.number("rope_theta", theta)
    if kind == "default":
        return Rope(theta, size, pairs)
    context = facts.size("max_position_embeddings")
    # Dynamic NTK measures against the model's own context, whatever else is written.
    original = context if kind in ("dynamic", "linear") else rope.size("original_max_position_embeddings", context)
    stretch = kind in ("yarn", "longrope")
    if original < 2 or (kind == "yarn" and theta <= 1.0) or (kind == "dynamic" and size < 4):
        raise facts.wrong("rope_parameters", rope.fields, Words("numbers that its type can be computed with"))
    factor = rope.number("factor", context / original if stretch else facts.required)
    lists = {
        name: tuple(rope.numbers(f"{name}_factor", size // 2)) if kind == "longrope" else ()
        for name in ("short", "long")
    }
    llama3 = kind == "llama3"
    if llama3 and rope.number("low_freq_factor") >= rope.number("high_freq_factor"):
        raise facts.wrong("rope_parameters", rope.fields, Words("numbers that its type can be computed with"))
    return Rope(
        theta, size, pairs, False, kind, factor, original,
        low=rope.number("low_freq_factor") if llama3 else 1.0,
        high=rope.number("high_freq_factor") if llama3 else 4.0,
        fast=rope.number("beta_fast", 32.0) if kind == "yarn" else 32.0,
        slow=rope.number("beta_slow", 1.0) if kind == "yarn" else 1.0,
        truncate=rope.flag("truncate", True) if kind == "yarn" else True,
        short=lists["short"], long=lists["long"],
        magnitude=_magnitude(rope, kind, factor, original),
    )  # fmt: skip


def layer_types(facts: Facts, n_layers: int, default: list[str]) -> list[str]:
    """Which layers have a sliding window: `layer_types`, or the family's default."""
    given = facts.fields.get("layer_types")
    if given is None:
        return default
    known = ("full_attention", "sliding_attention")
    if not isinstance(given, list) or len(given) != n_layers or any(t not in known for t in given):
        raise facts.wrong("layer_types", given, Words("one of full_attention, sliding_attention for each layer"))
    return given


def same_layers(n_layers: int, **fields: Any) -> tuple[LayerKind, ...]:
    """`n_layers` layers that do not differ."""
    return (LayerKind(**fields),) * n_layers


def alibi_slopes(n_heads: int) -> tuple[float, ...]:
    """2^(-8i/n) for a power of two n of heads; for other counts those of the next smaller power, and every
    other one of the next larger (the paper's own code, arXiv:2108.12409)."""
    power = 1 << int(math.log2(n_heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-8.0 * (2 * i + 1) / (2 * power)) for i in range(n_heads - power)]
    return tuple(slopes)
