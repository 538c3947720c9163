"""BLOOM (arXiv:2211.05100): ALiBi, a norm on the embeddings, query, key and value fused head by head."""

from kvsim.config import Alibi, Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import NO_LIMIT, same_layers
from kvsim.loading.sources import Names, Source, fused_groups, is_part

PREFIX = "transformer."
IGNORED: tuple[str, ...] = ()
INSIDE = {
    "attention_norm": "input_layernorm",
    "query": "self_attention.query_key_value",
    "key": "self_attention.query_key_value",
    "value": "self_attention.query_key_value",
    "output": "self_attention.dense",
    "ff_norm": "post_attention_layernorm",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}
OUTSIDE = {
    "tokens": "transformer.word_embeddings.weight",
    "embedding_norm": "transformer.word_embeddings_layernorm",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
NAMES = Names("transformer.h", INSIDE, OUTSIDE)


def config(facts: Facts) -> Config:
    if facts.flag("slow_but_exact"):
        facts.only("pretraining_tp", 1)
    n_layers = facts.layers("n_layer")
    n_heads = facts.size("n_head")
    d_model = facts.size("hidden_size")
    if d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (n_head)")
    return Config(
        family="bloom",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("seq_length", NO_LIMIT),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_ff=4 * d_model,
        norm="layer",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation="bloom_gelu",
        gated=False,
        layers=same_layers(n_layers),
        residual="normed" if facts.flag("apply_residual_connection_post_layernorm") else "pre",
        embedding_norm=True,
        alibi=Alibi(n_heads),
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings"),
    )


def tensor(name: str, config: Config) -> Source:
    fused = is_part(name, "query", "key", "value")
    if fused is None:
        return Source(NAMES.find(name))
    return fused_groups(NAMES.find(name), fused, config, bias=name.endswith("bias"))
