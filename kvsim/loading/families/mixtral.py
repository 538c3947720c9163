"""Mixtral (arXiv:2401.04088): every feed-forward layer a mixture; softmax over all experts, the best made
to sum to 1."""

from kvsim.config import Config, Experts, LayerKind
from kvsim.loading.facts import Facts
from kvsim.loading.families.llama import IGNORED, INSIDE, OUTSIDE, PREFIX, base
from kvsim.loading.sources import Names, Source

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
MIXTURE = {
    "router": "block_sparse_moe.gate",
    "experts.*.gate": "block_sparse_moe.experts.*.w1",
    "experts.*.up": "block_sparse_moe.experts.*.w3",
    "experts.*.down": "block_sparse_moe.experts.*.w2",
}
NAMES = Names("model.layers", INSIDE | MIXTURE, OUTSIDE)


def config(facts: Facts) -> Config:
    plain = base(facts, qkv_bias=False, out_bias=False, ff_bias=False)
    window = facts.size("sliding_window") if facts.fields.get("sliding_window") is not None else None
    count = facts.size("num_local_experts", 8)
    experts = Experts(count, facts.at_most("num_experts_per_tok", count, 2), plain.d_ff, normalize=True)
    kinds = tuple(LayerKind(rope=kind.rope, window=window, experts=experts) for kind in plain.layers)
    return base(facts, qkv_bias=False, out_bias=False, ff_bias=False, layers=kinds)


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
