"""OPT (arXiv:2205.01068): learned positions that start at row 2, norms before or after, and for some
sizes embeddings of a width other than the model's."""

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, same_layers
from kvsim.loading.sources import Names, Source, rows

PREFIX = "model."
IGNORED: tuple[str, ...] = ()
INSIDE = {
    "attention_norm": "self_attn_layer_norm",
    "attention_total_norm": "self_attn_layer_norm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.out_proj",
    "ff_norm": "final_layer_norm",
    "ff_total_norm": "final_layer_norm",
    "up": "fc1",
    "down": "fc2",
}
OUTSIDE = {
    "tokens": "model.decoder.embed_tokens.weight",
    "positions": "model.decoder.embed_positions.weight",
    "project_in": "model.decoder.project_in",
    "project_out": "model.decoder.project_out",
    "final_norm": "model.decoder.final_layer_norm",
    "head": "lm_head",
}
NAMES = Names("model.decoder.layers", INSIDE, OUTSIDE)
OFFSET = 2  # position p reads row p + 2


def config(facts: Facts) -> Config:
    n_layers, n_heads = facts.layers("num_hidden_layers"), facts.size("num_attention_heads")
    d_model = facts.size("hidden_size")
    if d_model % n_heads:
        raise facts.wrong("hidden_size", d_model, f"{n_heads} · n (num_attention_heads)")
    before = facts.flag("do_layer_norm_before")
    bias = facts.flag("enable_bias")
    width = facts.size("word_embed_proj_dim", d_model)
    return Config(
        family="opt",
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size("max_position_embeddings"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_ff=facts.size("ffn_dim"),
        norm="layer",
        norm_eps=1e-5,
        activation=facts.choice("activation_function", ACTIVATIONS),
        gated=False,
        layers=same_layers(n_layers),
        residual="pre" if before else "post",
        norm_gain=facts.flag("layer_norm_elementwise_affine"),
        final_norm=before and not facts.flag("_remove_final_layer_norm"),
        learned_positions=True,
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=bias,
        d_embedding=None if width == d_model else width,
        tied_head=facts.flag("tie_word_embeddings"),
    )


def tensor(name: str, config: Config) -> Source:
    if name == "positions":
        stored = (config.max_context + OFFSET, config.d_model)
        return rows(NAMES.find(name), OFFSET, stored[0], stored)
    return Source(NAMES.find(name))
