"""Phi-3 and Phi-4 (arXiv:2404.14219): Llama with fused projections, LongRoPE, sometimes a window."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.llama import IGNORED, INSIDE, OUTSIDE, PREFIX, base
from kvsim.loading.sources import Names, Source, fused_blocks, is_part, rows

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
FUSED = dict.fromkeys(("query", "key", "value"), "self_attn.qkv_proj")
NAMES = Names("model.layers", INSIDE | FUSED | {"gate": "mlp.gate_up_proj", "up": "mlp.gate_up_proj"}, OUTSIDE)


def config(facts: Facts) -> Config:
    for key in ("rope_parameters", "rope_scaling"):
        table = facts.table(key)
        if table:  # the first configs call LongRoPE "yarn"
            names = {name: "longrope" for name in ("rope_type", "type") if table.get(name) in ("su", "yarn")}
            facts = facts.changed(**{key: table | names})
            facts.inside(key).only("rope_type", "default", "longrope")
            facts.inside(key).only("type", "default", "longrope")
    return base(facts, qkv_bias=False, out_bias=False, ff_bias=False)


def tensor(name: str, config: Config) -> Source:
    key = NAMES.find(name)
    fused = is_part(name, "query", "key", "value")
    if fused is not None:
        return fused_blocks(key, fused, config, bias=False)
    half = is_part(name, "gate", "up")
    if half is not None:
        start = 0 if half == "gate" else config.d_ff
        return rows(key, start, start + config.d_ff, (2 * config.d_ff, config.d_model))
    return Source(key)
