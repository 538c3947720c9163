"""BART (arXiv:1910.13461), mBART (arXiv:2001.08210) and Whisper (arXiv:2212.04356).

bart      norms after each half and on the embeddings; positions start at row 2
mbart     norms before each half, and after the last layer
whisper   the same over sound; keys have no bias
"""

import math
from dataclasses import replace

from kvsim.config import Audio, Config
from kvsim.loading.facts import Facts
from kvsim.loading.families.common import ACTIVATIONS, same_layers
from kvsim.loading.sources import Names, Source, rows

PREFIX = "model."
IGNORED = ("*encoder.embed_tokens.weight", "*decoder.embed_tokens.weight", "lm_head.weight", "proj_out.weight")
OFFSET = 2  # position p reads row p + 2, except in Whisper
ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
INSIDE = {
    **{name: f"self_attn.{short}" for name, short in ATTENTION.items()},
    **{f"cross.{name}": f"encoder_attn.{short}" for name, short in ATTENTION.items()},
    **{f"attention{kind}_norm": "self_attn_layer_norm" for kind in ("", "_total")},
    **{f"cross{kind}_norm": "encoder_attn_layer_norm" for kind in ("", "_total")},
    **{f"ff{kind}_norm": "final_layer_norm" for kind in ("", "_total")},
    "up": "fc1",
    "down": "fc2",
}


def names(stack: str, family: str) -> Names:
    outside = {
        "tokens": "model.decoder.embed_tokens.weight" if family == "whisper" else "model.shared.weight",
        "positions": f"model.{stack}.embed_positions.weight",
        "embedding_norm": f"model.{stack}.layernorm_embedding",
        "final_norm": f"model.{stack}.layer_norm",
        "convolutions.0": "model.encoder.conv1",
        "convolutions.1": "model.encoder.conv2",
        "head.weight": "proj_out.weight" if family == "whisper" else "lm_head.weight",
        "head.bias": "final_logits_bias",
    }
    return Names(f"model.{stack}.layers", INSIDE, outside)


def stack_config(facts: Facts, stack: str) -> Config:
    """The config of the encoder or of the decoder alone."""
    family = facts.family
    whisper = family == "whisper"
    n_layers, n_heads = facts.layers(f"{stack}_layers"), facts.size(f"{stack}_attention_heads")
    d_model = facts.size("d_model")
    if d_model % n_heads:
        raise facts.wrong("d_model", d_model, f"{n_heads} · n ({stack}_attention_heads)")
    context = {"encoder": "max_source_positions", "decoder": "max_target_positions"}[stack]
    return Config(
        family=family,
        vocab_size=facts.size("vocab_size"),
        max_context=facts.size(context if whisper else "max_position_embeddings"),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_ff=facts.size(f"{stack}_ffn_dim"),
        norm="layer",
        norm_eps=1e-5,
        activation=facts.choice("activation_function", ACTIVATIONS),
        gated=False,
        layers=same_layers(n_layers),
        residual="post" if family == "bart" else "pre",
        embedding_norm=not whisper,
        final_norm=family != "bart",
        learned_positions=True,
        qkv_bias=True,
        key_bias=not whisper,
        out_bias=True,
        ff_bias=True,
        # Whisper's code reads scale_embedding and does not use it.
        embedding_scale=math.sqrt(d_model) if not whisper and facts.flag("scale_embedding") else 1.0,
        audio=Audio(facts.size("num_mel_bins")) if whisper else None,
    )


def config(facts: Facts) -> Config:
    encoder = replace(stack_config(facts, "encoder"), causal=False)
    decoder = stack_config(facts, "decoder")
    facts.only("tie_word_embeddings", True)
    start = facts.index("decoder_start_token_id") if facts.given("decoder_start_token_id") else None
    return replace(decoder, encoder=encoder, tied_head=True, head_bias=encoder.audio is None, start_id=start)


def tensor(name: str, config: Config) -> Source:
    stack = "encoder" if name.startswith("encoder.") else "decoder"
    place = name.removeprefix("encoder.")
    key = names(stack, config.family).find(place)
    part = config.encoder if stack == "encoder" and config.encoder is not None else config
    if place == "positions" and config.audio is None:
        stored = (part.max_context + OFFSET, part.d_model)
        return rows(key, OFFSET, stored[0], stored)
    if place == "head.bias":
        return Source(key, (1, config.vocab_size), lambda t: t[0])
    if place.startswith("convolutions.") and place.endswith("weight") and config.audio is not None:
        width = config.audio.n_mels if place.startswith("convolutions.0") else config.d_model
        return Source(key, (config.d_model, width, 3), lambda t: t.reshape(config.d_model, 3 * width))
    return Source(key)
