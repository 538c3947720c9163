"""GPT-J (Wang and Komatsuzaki 2021): parallel attention and feed-forward, rotary on adjacent pairs."""

from kvsim.config import Config, Rope
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, same_layers
from kvsim.loading.sources import Names, Source

PREFIX = "transformer."
IGNORED = ("*.attn.bias", "*.attn.masked_bias", "*.attn.embed_positions")
INSIDE = {
    "attention_norm": "ln_1",
    "query": "attn.q_proj",
    "key": "attn.k_proj",
    "value": "attn.v_proj",
    "output": "attn.out_proj",
    "up": "mlp.fc_in",
    "down": "mlp.fc_out",
}
OUTSIDE = {"tokens": "transformer.wte.weight", "final_norm": "transformer.ln_f", "head": "lm_head"}
NAMES = Names("transformer.h", INSIDE, OUTSIDE)


def config(facts: Facts) -> Config:
    n_layers, n_heads, d_model = facts.layers("n_layer"), facts.size("n_head"), facts.size("n_embd")
    if d_model % n_heads:
        raise facts.wrong("n_embd", d_model, f"{n_heads} · n (n_head)")
    d_head = d_model // n_heads
    size = facts.size("rotary_dim")
    if size % 2 or size > d_head:
        raise facts.wrong("rotary_dim", size, f"2 · n <= {d_head}")
    return Config(
        family="gptj",
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
        layers=same_layers(n_layers, rope=Rope(10000.0, size, "adjacent")),
        residual="parallel",
        ff_bias=True,
        tied_head=facts.flag("tie_word_embeddings"),
        head_bias=True,
    )


def tensor(name: str, config: Config) -> Source:
    return Source(NAMES.find(name))
