"""Qwen3-MoE (arXiv:2505.09388): Qwen3 with mixtures in all or some layers."""

from dataclasses import replace

from kvsim.config import Config, Experts
from kvsim.errors import Words
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import with_experts
from kvsim.loading.families.llama import IGNORED, INSIDE, OUTSIDE, PREFIX, base
from kvsim.loading.sources import Names, Source

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
MIXTURE = {
    "router": "mlp.gate",
    "experts.*.gate": "mlp.experts.*.gate_proj",
    "experts.*.up": "mlp.experts.*.up_proj",
    "experts.*.down": "mlp.experts.*.down_proj",
}
NAMES = Names("model.layers", INSIDE | MIXTURE, OUTSIDE)


def config(facts: Facts) -> Config:
    count = facts.size("num_experts")
    experts = Experts(
        count,
        facts.at_most("num_experts_per_tok", count),
        facts.size("moe_intermediate_size"),
        normalize=facts.flag("norm_topk_prob"),
    )
    every = facts.size("decoder_sparse_step")
    dense = facts.value("mlp_only_layers", [])
    if not isinstance(dense, list) or any(type(layer) is not int for layer in dense):
        raise facts.wrong("mlp_only_layers", dense, Words("a list of layers"))
    without = set(dense)
    plain = base(facts, qk_norm="head", ff_bias=False)
    has = [i not in without and (i + 1) % every == 0 for i in range(plain.n_layers)]
    return replace(plain, layers=with_experts(plain.layers, [experts if mixed else None for mixed in has]))


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
