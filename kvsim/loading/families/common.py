"""Fields that config.json files of several families share."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvsim.config import Experts, LayerKind, Rope
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
NO_LIMIT = 2**31 - 1  # the context of a model whose positions are not limited by a table
ROPES = {"default": "default", "linear": "linear", "dynamic": "dynamic", "yarn": "yarn", "longrope": "longrope",
         "su": "longrope", "llama3": "llama3"}  # fmt: skip


def head_size(facts: Facts, d_model: int, n_heads: int) -> int:
    """`head_dim`; if neither file nor class has one, d_model / heads."""
    if not facts.given("head_dim") and d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (num_attention_heads), / head_dim")
    return facts.size("head_dim", d_model // n_heads)


def rope_facts(
    facts: Facts,
    layer_type: str | None = None,
    theta: str = "rope_theta",
    partial: str = "partial_rotary_factor",
) -> Facts:
    """The rotary fields in one place: `rope_parameters` (transformers 5; for some families one table for
    each type of layer), or `rope_scaling` and fields beside it (before), which `theta` and `partial` name."""
    scaling = facts.table("rope_scaling")
    table = facts.table("rope_parameters") if layer_type is not None or not scaling else {}
    if layer_type is not None and isinstance(table.get(layer_type), dict):
        merged = {**table[layer_type], **(scaling if layer_type == "full_attention" else {})}
    else:
        merged = dict(scaling or table)
    for key, outside in (("rope_theta", theta), ("partial_rotary_factor", partial)):
        if key not in merged and (outside in facts.behind.values or facts.given(outside)):
            merged[key] = facts.number(outside)
    if merged.get("rope_type") is None:
        merged["rope_type"] = "default" if merged.get("type") is None else merged["type"]
    return facts.inside("rope_parameters", merged)


def _magnitude(rope: Facts, kind: str, factor: float, original: int) -> float:
    """The factor on cosine and sine: as given, or as YaRN and LongRoPE define it."""
    if kind not in ("yarn", "longrope"):
        return 1.0
    if rope.given("attention_factor"):
        return rope.number("attention_factor")
    if factor <= 1.0:
        return 1.0
    if kind == "longrope":
        return math.sqrt(1 + math.log(factor) / math.log(original))
    over, under = rope.number_or_none("mscale"), rope.number_or_none("mscale_all_dim")
    if over is not None and under is not None:
        return (0.1 * over * math.log(factor) + 1.0) / (0.1 * under * math.log(factor) + 1.0)
    return 0.1 * math.log(factor) + 1.0


def original_context(facts: Facts, rope: Facts, kind: str, context: int) -> int:
    """The context before scaling: from the field beside the table (Phi), which takes precedence, or from the table."""
    if kind in ("dynamic", "linear"):  # these scale relative to the model's own context, whatever else is written
        return context
    if facts.given("original_max_position_embeddings"):
        return facts.size("original_max_position_embeddings")
    return rope.size("original_max_position_embeddings", context)


def read_rope(
    facts: Facts,
    d_head: int,
    *,
    theta: str = "rope_theta",
    partial: str | None = None,
    pairs: Any = "halves",
    layer_type: str | None = None,
) -> Rope:
    """The rotary positions of a config.json for heads of `d_head`. `theta`, `partial`: the fields beside the
    table with the base, and with the part of a head that turns; None for a family that turns all of it.
    FileError: an unknown type."""
    rope = rope_facts(facts, layer_type, theta, partial or "partial_rotary_factor")
    if partial is None:
        rope.only("partial_rotary_factor", 1.0)
    kind = rope.choice("rope_type", ROPES)
    share = 1.0 if partial is None else rope.number("partial_rotary_factor")
    if share > 1:
        raise facts.wrong("partial_rotary_factor", share, "0 < x <= 1")
    size = int(d_head * share)
    if size < 2 or size % 2 or size > d_head:
        raise facts.wrong("head_dim · partial_rotary_factor", size, Words("an even number of rotary elements"))
    base = rope.number("rope_theta")
    if kind == "default":
        return Rope(base, size, pairs)
    context = facts.size("max_position_embeddings")
    original = original_context(facts, rope, kind, context)
    if original < 2 or (kind == "yarn" and base <= 1.0) or (kind == "dynamic" and size < 4):
        raise facts.wrong("rope_parameters", rope.fields, Words("numbers that its type can be computed with"))
    # YaRN's factor may be null, not left out.
    stretch = kind == "longrope" or (kind == "yarn" and rope.has("factor"))
    factor = rope.number("factor", context / original if stretch else facts.required)
    lists = {
        name: tuple(rope.numbers(f"{name}_factor", size // 2)) if kind == "longrope" else ()
        for name in ("short", "long")
    }
    llama3 = kind == "llama3"
    if llama3 and rope.number("low_freq_factor") >= rope.number("high_freq_factor"):
        raise facts.wrong("rope_parameters", rope.fields, Words("numbers that its type can be computed with"))
    return Rope(
        base, size, pairs, False, kind, factor, original,
        low=rope.number("low_freq_factor") if llama3 else 1.0,
        high=rope.number("high_freq_factor") if llama3 else 4.0,
        fast=rope.number("beta_fast", 32.0) if kind == "yarn" else 32.0,
        slow=rope.number("beta_slow", 1.0) if kind == "yarn" else 1.0,
        truncate=rope.flag("truncate", True) if kind == "yarn" else True,
        short=lists["short"], long=lists["long"],
        magnitude=_magnitude(rope, kind, factor, original),
    )  # fmt: skip


def layer_types(facts: Facts, n_layers: int, default: list[str] | None) -> list[str]:
    """The type of each layer: `layer_types`, or the family's default (None: the field is required)."""
    given = facts.value("layer_types", default)
    known = ("full_attention", "sliding_attention")
    if not isinstance(given, list) or len(given) != n_layers or any(t not in known for t in given):
        raise facts.wrong("layer_types", given, Words("one of full_attention, sliding_attention for each layer"))
    return given


def same_layers(n_layers: int, **fields: Any) -> tuple[LayerKind, ...]:
    """`n_layers` equal layers."""
    return (LayerKind(**fields),) * n_layers


def with_experts(layers: Sequence[LayerKind], experts: Sequence[Experts | None]) -> tuple[LayerKind, ...]:
    """The layers with these mixtures; equal layers stay one object, so that counting looks at each kind once."""
    pairs = list(zip(layers, experts, strict=True))
    made = {(id(kind), mixed): replace(kind, experts=mixed) for kind, mixed in pairs}
    return tuple(made[id(kind), mixed] for kind, mixed in pairs)
