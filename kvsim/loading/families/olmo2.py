"""OLMo 2 (arXiv:2501.00656): norms on the output of attention and of feed-forward, query and key normalised over all
heads."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.llama import IGNORED, INSIDE, OUTSIDE, PREFIX, base
from kvsim.loading.sources import Names, Source

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]
NORMS = {"attention_branch_norm": "post_attention_layernorm", "ff_branch_norm": "post_feedforward_layernorm"}
NAMES = Names("model.layers", INSIDE | NORMS, OUTSIDE)


def config(facts: Facts) -> Config:
    return base(facts, residual="output", qk_norm="whole", ff_bias=False)


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
