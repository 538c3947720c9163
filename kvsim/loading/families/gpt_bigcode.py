"""GPT-BigCode (SantaCoder, StarCoder; arXiv:2301.03988): GPT-2 with one key/value head, plain matrices."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, same_layers
from kvsim.loading.families.gpt2 import IGNORED, NAMES, PREFIX
from kvsim.loading.sources import Source, fused_blocks, fused_groups, is_part

__all__ = ["IGNORED", "PREFIX", "config", "tensor"]


def config(facts: Facts) -> Config:
    n_layers, n_heads, d_model = facts.layers("n_layer"), facts.size("n_head"), facts.size("n_embd")
    if d_model % n_heads:
        raise facts.wrong("n_embd", d_model, f"{n_heads} · n (n_head)")
    facts.only("add_cross_attention", False)
    return Config(
        family="gpt_bigcode",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("n_positions"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=1 if facts.flag("multi_query") else n_heads,
        d_head=d_model // n_heads,
        d_ff=facts.size("n_inner", 4 * d_model),
        norm="layer",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation=facts.choice("activation_function", ACTIVATIONS),
        gated=False,
        layers=same_layers(n_layers, scale=None if facts.flag("scale_attn_weights") else 1.0),
        learned_positions=True,
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings"),
    )


def tensor(name: str, config: Config) -> Source:
    fused = is_part(name, "query", "key", "value")
    if fused is None:
        return Source(NAMES.find(name))
    layout = fused_blocks if config.n_kv_heads == 1 else fused_groups
    return layout(NAMES.find(name), fused, config, bias=name.endswith("bias"))
