"""Command-R (Cohere 2024): parallel attention and feed-forward after one LayerNorm without bias, rotary on adjacent
pairs, scaled logits, and for the large sizes query and key normalised with a gain for every head."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import head_size, read_rope, same_layers
from kvsim.loading.families.llama import IGNORED, NAMES, PREFIX, base
from kvsim.loading.sources import Source

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]


def config(facts: Facts) -> Config:
    n_heads, d_model = facts.size("num_attention_heads"), facts.size("hidden_size")
    rope = read_rope(facts, head_size(facts, d_model, n_heads), pairs="adjacent")
    return base(
        facts,
        norm="layer",
        norm_eps=facts.number("layer_norm_eps"),
        layers=same_layers(facts.layers("num_hidden_layers"), rope=rope),
        residual="parallel",
        norm_bias=False,
        qk_norm="each" if facts.flag("use_qk_norm") else None,
        ff_bias=False,
        tied_head=facts.flag("tie_word_embeddings"),
        logit_scale=facts.number("logit_scale"),
    )


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
