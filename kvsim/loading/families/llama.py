"""Llama (arXiv:2302.13971) and close relatives: RMSNorm, rotary positions, SwiGLU.

mistral   a sliding window
qwen2     biases on query, key and value; windows in some layers
qwen3     query and key normalised head by head
smollm3   no positions in every fourth layer
"""

from collections.abc import Callable
from typing import Any

from kvsim.config import Config, LayerKind
from kvsim.errors import Words
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, head_size, layer_types, read_rope
from kvsim.loading.sources import Names, Source

PREFIX = "model."
IGNORED = ("*.rotary_emb.inv_freq",)  # a table that older versions saved
PARTIAL = {"phi3": "partial_rotary_factor"}  # families that may rotate only a part of each head
WINDOWED = ("mistral", "mixtral", "phi3")  # families with one window in all layers
BY_TYPE = ("qwen2", "qwen3", "smollm3")  # families whose layers differ
SWITCHED = (*BY_TYPE, "qwen3_moe")  # families with windows only if use_sliding_window is true
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
    family, full, sliding = facts.family, "full_attention", "sliding_attention"
    if family in BY_TYPE and facts.has("layer_types"):
        layer_types(facts, n_layers, [full] * n_layers)  # a contradiction is refused even if the types are not used
    used = family in WINDOWED or (family in SWITCHED and facts.flag("use_sliding_window"))
    if not used or not facts.given("sliding_window"):
        return [None] * n_layers
    window = facts.size("sliding_window")
    if family not in BY_TYPE:
        return [window] * n_layers
    if family == "smollm3":
        default = [full if has else sliding for has in rotary_layers(facts, n_layers)]
    elif not facts.given("layer_types"):
        first = facts.index("max_window_layers", what=Words("a number of layers"))
        default = [sliding if i >= first else full for i in range(n_layers)]
    else:
        default = None
    return [window if t == sliding else None for t in layer_types(facts, n_layers, default)]


def rotary_layers(facts: Facts, n_layers: int) -> list[bool]:
    """Which layers have rotary positions: all, except in smollm3."""
    if facts.family != "smollm3":
        return [True] * n_layers
    default = None
    if not facts.given("no_rope_layers"):
        every = facts.size("no_rope_layer_interval")
        default = [int((i + 1) % every != 0) for i in range(n_layers)]
    given = facts.value("no_rope_layers", default)
    bits = isinstance(given, list) and all(type(g) is int and g in (0, 1) for g in given)
    if not bits or len(given) != n_layers:
        raise facts.wrong("no_rope_layers", given, Words("0 or 1 for each layer"))
    return [bool(g) for g in given]


def make_layers(facts: Facts, n_layers: int, d_head: int) -> tuple[LayerKind, ...]:
    """Rotary positions and windows, layer by layer."""
    rope = read_rope(facts, d_head, partial=PARTIAL.get(facts.family))
    pairs = list(zip(rotary_layers(facts, n_layers), windows(facts, n_layers), strict=True))
    kinds = {pair: LayerKind(rope=rope if pair[0] else None, window=pair[1]) for pair in set(pairs)}
    return tuple(kinds[pair] for pair in pairs)


def context_of(facts: Facts, layers: tuple[LayerKind, ...]) -> int:
    """The model's context; with dynamic NTK the written context times its factor."""
    written = facts.size("max_position_embeddings")
    factors = [kind.rope.factor for kind in layers if kind.rope is not None and kind.rope.kind == "dynamic"]
    context = written * factors[0] if factors else written
    if not 1 <= context < 2**40:
        raise facts.wrong("max_position_embeddings · factor", context, Words("a positive integer"))
    return int(context)


def base(facts: Facts, **changes: Any) -> Config:
    """The config that all of these share; fields in `changes` replace those of the file, which are then not read."""
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    d_head = head_size(facts, d_model, n_heads)
    layers = changes["layers"] if "layers" in changes else make_layers(facts, n_layers, d_head)
    read: dict[str, Callable[[], Any]] = {
        "norm_eps": lambda: facts.number("rms_norm_eps"),
        "activation": lambda: facts.choice("hidden_act", ACTIVATIONS),
        "qkv_bias": lambda: facts.flag("attention_bias"),
        "out_bias": lambda: facts.flag("attention_bias"),
        "ff_bias": lambda: facts.flag("mlp_bias"),
        "tied_head": lambda: facts.flag("tie_word_embeddings"),
    }
    fields: dict[str, Any] = {
        "family": facts.family,
        "vocab_size": facts.size("vocab_size"),
        "max_context": context_of(facts, layers),
        "n_layers": n_layers,
        "d_model": d_model,
        "n_heads": n_heads,
        "n_kv_heads": facts.size("num_key_value_heads", n_heads),
        "d_head": d_head,
        "d_ff": facts.size("intermediate_size"),
        "norm": "rms",
        "gated": True,
        "layers": layers,
        **{name: reader() for name, reader in read.items() if name not in changes},
    }
    return Config(**{**fields, **changes})


def config(facts: Facts) -> Config:
    family = facts.family
    if family == "qwen2":
        return base(facts, qkv_bias=True, out_bias=False, ff_bias=False)
    if family == "qwen3":
        return base(facts, qk_norm="head", ff_bias=False)
    if family == "mistral":
        return base(facts, qkv_bias=False, out_bias=False, ff_bias=False)
    return base(facts)


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
