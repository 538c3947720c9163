"""gpt-oss (OpenAI 2025): attention sinks, windows in every other layer, experts with biases and a clipped SwiGLU.
Experts are stored [expert, in, out], gate and up interleaved."""

from typing import Any

from kvsim.config import Config, Experts, LayerKind
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import head_size, layer_types, read_rope
from kvsim.loading.families.llama import IGNORED, INSIDE, OUTSIDE, PREFIX, base
from kvsim.loading.sources import Names, Source

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
MIXTURE = {
    "sinks": "self_attn.sinks",
    "router": "mlp.router",
    "experts.*.gate.weight": "mlp.experts.gate_up_proj",
    "experts.*.up.weight": "mlp.experts.gate_up_proj",
    "experts.*.down.weight": "mlp.experts.down_proj",
    "experts.*.gate.bias": "mlp.experts.gate_up_proj_bias",
    "experts.*.up.bias": "mlp.experts.gate_up_proj_bias",
    "experts.*.down.bias": "mlp.experts.down_proj_bias",
}
NAMES = Names("model.layers", INSIDE | MIXTURE, OUTSIDE)


def config(facts: Facts) -> Config:
    facts.only("swiglu_alpha", 1.702)
    facts.only("swiglu_limit", 7.0)
    facts.only("hidden_act", "silu")
    facts.only("quantization_config")
    count, d_ff = facts.size("num_local_experts"), facts.size("intermediate_size")
    experts = Experts(count, facts.at_most("num_experts_per_tok", count), d_ff, router="chosen", bias=True)
    n_layers = facts.layers("num_hidden_layers")
    types = layer_types(facts, n_layers, ["full_attention" if i % 2 else "sliding_attention" for i in range(n_layers)])
    window = facts.size("sliding_window") if "sliding_attention" in types else None
    windows = {"full_attention": None, "sliding_attention": window}
    d_head = head_size(facts, facts.size("hidden_size"), facts.size("num_attention_heads"))
    rope = read_rope(facts, d_head)
    kinds = {t: LayerKind(rope=rope, window=width, experts=experts) for t, width in windows.items()}
    bias = facts.flag("attention_bias")
    return base(
        facts,
        activation="clipped_swiglu",
        layers=tuple(kinds[t] for t in types),
        sinks=True,
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=False,
    )


def tensor(name: str, config: Config) -> Source:
    key = NAMES.find(name)
    if ".experts." not in name:
        return Source(key)
    experts = config.layers[0].experts
    assert experts is not None
    expert, part, kind = name.split(".")[3:]
    d, f, n = config.d_model, experts.d_ff, experts.count
    columns = {"gate": slice(0, None, 2), "up": slice(1, None, 2), "down": slice(None)}[part]
    width = {"gate": 2 * f, "up": 2 * f, "down": d}[part]
    own = int(expert), int(expert) + 1
    if kind == "bias":
        return Source(key, (n, width), lambda t: t[0, columns], rows=own)

    def take(t: Any) -> Any:
        return t[0, :, columns].T

    return Source(key, (n, f if part == "down" else d, width), take, rows=own)
