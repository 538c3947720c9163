"""T5 (arXiv:1910.10683) and T5 v1.1: RMSNorm, relative positions in buckets, scores not scaled."""

from dataclasses import replace

from kvsim.config import Buckets, Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, NO_LIMIT, same_layers
from kvsim.loading.sources import Names, Source

PREFIX = ""
IGNORED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
FEED_FORWARDS = {
    "relu": ("relu", False),
    "gelu": ("gelu", False),
    "gated-gelu": ("gelu_tanh", True),
    "gated-silu": ("silu", True),
    "gated-relu": ("relu", True),
}
ATTENTION = {"query": "q", "key": "k", "value": "v", "output": "o"}


def names(stack: str, gated: bool) -> Names:
    """Half 0 of a block is self-attention; the feed-forward layer is the last."""
    last = 2 if stack == "decoder" else 1
    inside = {name: f"layer.0.SelfAttention.{short}" for name, short in ATTENTION.items()}
    inside |= {f"cross.{name}": f"layer.1.EncDecAttention.{short}" for name, short in ATTENTION.items()}
    inside |= {"attention_norm": "layer.0.layer_norm", "cross_norm": "layer.1.layer_norm"}
    dense = f"layer.{last}.DenseReluDense"
    inside |= {"ff_norm": f"layer.{last}.layer_norm", "down": f"{dense}.wo"}
    inside |= {"gate": f"{dense}.wi_0", "up": f"{dense}.wi_1"} if gated else {"up": f"{dense}.wi"}
    outside = {
        "tokens": "shared.weight",
        "buckets": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "final_norm": f"{stack}.final_layer_norm",
        "head": "lm_head",
    }
    return Names(f"{stack}.block", inside, outside)


def read_buckets(facts: Facts) -> Buckets:
    """The buckets of distances. The encoder has half of them on each side, and half of these for single distances."""
    count, distance = "relative_attention_num_buckets", "relative_attention_max_distance"
    buckets = Buckets(facts.size(count), facts.at_most(distance, 2**20))
    if buckets.count < 4:
        raise facts.wrong(count, buckets.count, "n >= 4")
    if buckets.max_distance <= buckets.count // 2:
        raise facts.wrong(distance, buckets.max_distance, f"n > {buckets.count // 2} ({count} / 2)")
    return buckets


def config(facts: Facts) -> Config:
    n_layers, n_heads, d_model = facts.layers("num_layers"), facts.size("num_heads"), facts.size("d_model")
    activation, gated = facts.choice("feed_forward_proj", FEED_FORWARDS)
    facts.only("is_gated_act", gated)
    if facts.given("dense_act_fn") and facts.choice("dense_act_fn", ACTIVATIONS) != activation:
        raise facts.wrong("dense_act_fn", facts.value("dense_act_fn"), f"{activation} (feed_forward_proj)")
    tied = facts.flag("tie_word_embeddings", True)
    # If num_layers has another name, transformers uses its default for the decoder.
    symmetric = facts.name_of("num_layers") == "num_layers"
    n_decoder = facts.layers("num_decoder_layers", n_layers if symmetric else facts.required)
    encoder = Config(
        family="t5",
        vocab_size=facts.size("vocab_size"),
        max_context=NO_LIMIT,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=facts.size("d_kv"),
        d_ff=facts.size("d_ff"),
        norm="rms",
        norm_eps=facts.number("layer_norm_epsilon"),
        activation=activation,
        gated=gated,
        layers=same_layers(n_layers, scale=1.0),
        buckets=read_buckets(facts),
        causal=False,
    )
    scaled = facts.flag("scale_decoder_outputs", tied)
    return replace(
        encoder,
        n_layers=n_decoder,
        layers=same_layers(n_decoder, scale=1.0),
        tied_head=tied,
        head_scale=d_model**-0.5 if scaled else 1.0,
        causal=True,
        encoder=encoder,
        # The class has no default; transformers cannot generate without a start id.
        start_id=facts.index("decoder_start_token_id") if facts.given("decoder_start_token_id") else None,
    )


def tensor(name: str, config: Config) -> Source:
    stack = "encoder" if name.startswith("encoder.") else "decoder"
    return Source(names(stack, config.gated).find(name.removeprefix("encoder.")))
