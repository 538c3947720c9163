"""Mixtral (arXiv:2401.04088): a mixture of experts in every layer; softmax over all experts, the chosen
weights normalised to sum to 1."""

from dataclasses import replace

from kvsim.config import Config, Experts
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import with_experts
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
    count = facts.size("num_local_experts")
    experts = Experts(count, facts.at_most("num_experts_per_tok", count), plain.d_ff, normalize=True)
    return replace(plain, layers=with_experts(plain.layers, [experts] * plain.n_layers))


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
