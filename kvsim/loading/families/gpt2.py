"""GPT-2 (Radford et al. 2019, transformers' GPT2LMHeadModel): LayerNorm, learned positions.

Its matrices are stored [in, out], and query, key and value side by side in one of them.
"""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families import Source

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
IGNORED = ("*.attn.bias", "*.attn.masked_bias")  # the causal mask, as a buffer
_NAMES = {
    "attention_norm": "ln_1",
    "query": "attn.c_attn",
    "key": "attn.c_attn",
    "value": "attn.c_attn",
    "output": "attn.c_proj",
    "ff_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
_KINDS = {"gain": "weight", "weight": "weight", "bias": "bias"}
_OUTSIDE = {
    "tokens": "transformer.wte.weight",
    "positions": "transformer.wpe.weight",
    "final_norm.gain": "transformer.ln_f.weight",
    "final_norm.bias": "transformer.ln_f.bias",
    "head.weight": "lm_head.weight",
}


def config(facts: Facts) -> Config:
    n_heads = facts.size("n_head")
    d_model = facts.size("n_embd")
    if d_model % n_heads:
        raise facts.wrong("n_embd", d_model, f"{n_heads} · n (n_head)")
    facts.only("scale_attn_weights", True)
    facts.only("scale_attn_by_inverse_layer_idx", False)
    facts.only("add_cross_attention", False)
    return Config(
        family="gpt2",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("n_positions"),
        n_layers=facts.size("n_layer"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_ff=facts.size("n_inner", 4 * d_model),
        norm="layer",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation=facts.choice("activation_function", ACTIVATIONS),
        gated=False,
        positions="learned",
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings", True),
    )


def tensor(name: str, config: Config) -> Source:
    if name in _OUTSIDE:
        return Source(_OUTSIDE[name])
    _, layer, part, kind = name.split(".")
    key = f"transformer.h.{layer}.{_NAMES[part]}.{_KINDS[kind]}"
    columns = None
    if part in ("query", "key", "value"):
        start = ("query", "key", "value").index(part) * config.d_model
        columns = (start, start + config.d_model, 3 * config.d_model)
    return Source(key, transposed=kind == "weight", columns=columns)
