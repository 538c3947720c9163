"""GPT-2 (Radford et al. 2019, transformers' GPT2LMHeadModel): LayerNorm, learned positions.

Its matrices are stored [in, out]; query, key and value are columns of one matrix.
"""

from kvsim.config import Config, LayerKind
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS
from kvsim.loading.sources import Names, Source, is_part

PREFIX = "transformer."
IGNORED = ("*.attn.bias", "*.attn.masked_bias")  # the causal mask, as a buffer
INSIDE = {
    "attention_norm": "ln_1",
    "query": "attn.c_attn",
    "key": "attn.c_attn",
    "value": "attn.c_attn",
    "output": "attn.c_proj",
    "ff_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
OUTSIDE = {
    "tokens": "transformer.wte.weight",
    "positions": "transformer.wpe.weight",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
NAMES = Names("transformer.h", INSIDE, OUTSIDE)


def config(facts: Facts) -> Config:
    n_layers, n_heads, d_model = facts.layers("n_layer"), facts.size("n_head"), facts.size("n_embd")
    if d_model % n_heads:
        raise facts.wrong("n_embd", d_model, f"{n_heads} · n (n_head)")
    facts.only("add_cross_attention", False)
    d_head = d_model // n_heads
    scale = d_head**-0.5 if facts.flag("scale_attn_weights") else 1.0
    by_layer = facts.flag("scale_attn_by_inverse_layer_idx")
    return Config(
        family="gpt2",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("n_positions"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_head,
        d_ff=facts.size("n_inner", 4 * d_model),
        norm="layer",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation=facts.choice("activation_function", ACTIVATIONS),
        gated=False,
        layers=tuple(LayerKind(scale=scale / (i + 1) if by_layer else scale) for i in range(n_layers)),
        learned_positions=True,
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings"),
    )


def tensor(name: str, config: Config) -> Source:
    key = NAMES.find(name)
    fused, d = is_part(name, "query", "key", "value"), config.d_model
    if fused is not None:
        start = ("query", "key", "value").index(fused) * d
        if name.endswith("bias"):
            return Source(key, (3 * d,), lambda t: t[start : start + d])
        return Source(key, (d, 3 * d), lambda t: t[:, start : start + d].T)
    shapes = {"output": (d, d), "up": (d, config.d_ff), "down": (config.d_ff, d)}
    part = is_part(name, *shapes)
    if part is not None and name.endswith("weight"):
        return Source(key, shapes[part], lambda t: t.T)
    return Source(key)
