"""MPT (MosaicML 2023): ALiBi, norms without biases, no biases at all."""

from kvsim.config import Alibi, Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import same_layers
from kvsim.loading.sources import Names, Source, fused_blocks, is_part

PREFIX = "transformer."
IGNORED: tuple[str, ...] = ()
INSIDE = {
    "attention_norm": "norm_1",
    "query": "attn.Wqkv",
    "key": "attn.Wqkv",
    "value": "attn.Wqkv",
    "output": "attn.out_proj",
    "ff_norm": "norm_2",
    "up": "ffn.up_proj",
    "down": "ffn.down_proj",
}
OUTSIDE = {"tokens": "transformer.wte.weight", "final_norm": "transformer.norm_f", "head": "lm_head"}
NAMES = Names("transformer.blocks", INSIDE, OUTSIDE)


def config(facts: Facts) -> Config:
    n_layers, n_heads, d_model = facts.layers("n_layers"), facts.size("n_heads"), facts.size("d_model")
    if d_model % n_heads:
        raise facts.wrong("d_model", d_model, f"{n_heads} · n (n_heads)")
    attention = facts.inside("attn_config")
    for key, allowed in (("alibi", True), ("qk_ln", False), ("prefix_lm", False), ("attn_uses_sequence_id", False)):
        attention.only(key, allowed)
    attention.only("attn_type", "multihead_attention")
    facts.only("no_bias", True)
    facts.only("logit_scale")
    # transformers always uses 8, the original code the written value: only 8 is the same in both.
    attention.only("alibi_bias_max", 8)
    return Config(
        family="mpt",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_seq_len"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_ff=4 * d_model,  # transformers ignores expansion_ratio
        norm="layer",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation="gelu",
        gated=False,
        layers=same_layers(n_layers, scale=attention.number_or_none("softmax_scale")),
        norm_bias=False,
        alibi=Alibi(n_heads, "mpt"),
        clip_qkv=attention.number_or_none("clip_qkv"),
        tied_head=facts.flag("tie_word_embeddings"),
    )


def tensor(name: str, config: Config) -> Source:
    fused = is_part(name, "query", "key", "value")
    if fused is None:
        return Source(NAMES.find(name))
    return fused_blocks(NAMES.find(name), fused, config, bias=name.endswith("bias"))
