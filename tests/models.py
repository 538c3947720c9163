"""Small models with random weights, and hypothesis strategies for configs and splits."""

from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

import kvsim
from kvsim.config import Alibi, Config, Experts, Latent, LayerKind, Rope
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model

# All sizes differ, so that no axis can be mistaken for another: G=3, R=2, H=6, J=5, K=10.
PRIMES = Config(
    family="llama", vocab_size=101, max_context=64, n_layers=2, d_model=13, n_heads=6, n_kv_heads=3, d_head=10, d_ff=17,
    norm="rms", norm_eps=1e-6, activation="silu", gated=True, layers=(LayerKind(rope=Rope(10000.0, 10)),) * 2,
)  # fmt: skip
GPT2_LIKE = replace(
    PRIMES, family="gpt2", norm="layer", activation="gelu_tanh", gated=False, learned_positions=True,
    layers=(LayerKind(),) * 2, qkv_bias=True,
    out_bias=True, ff_bias=True, tied_head=True, n_kv_heads=6,
)  # fmt: skip

# Largest differences that rounding in the dtype explains, relative to max|logit|.
CLOSE = {"float64": 1e-12, "float32": 1e-5}


@cache
def make_model(config: Config, dtype: str = "float64", seed: int = 0) -> Model:
    return Model(config, random_weights(config, seed), dtype=dtype)


@cache
def demo(dtype: str = "float32") -> Model:
    return kvsim.load("demo", dtype=dtype)


@st.composite
def layer_kinds(draw: st.DrawFn, d_head: int, has_rope: bool) -> LayerKind:
    """A layer's positions, window and scale."""
    rope = None
    if has_rope:
        size = draw(st.sampled_from([d_head, 2]))
        rope = Rope(draw(st.sampled_from([10.0, 10000.0])), size, draw(st.sampled_from(["halves", "adjacent"])))
    window = draw(st.sampled_from([None, 1, 3, 7]))
    return LayerKind(rope, window, draw(st.sampled_from([None, 0.5])))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any decoder that kvsim supports: norms and their places, positions, windows, numbers of heads, activations,
    biases, caps, sinks, mixtures of experts, latent attention, tied heads."""
    n_kv_heads, group = draw(st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 2), (3, 1), (2, 3)]))
    d_head = draw(st.sampled_from([2, 4, 10]))
    n_heads = n_kv_heads * group
    positions = draw(st.sampled_from(["rope", "learned", "alibi", "none"]))
    n_layers = draw(st.integers(1, 3))
    kinds = [draw(layer_kinds(d_head, positions == "rope")) for _ in range(n_layers)]
    latent = None
    if draw(st.integers(0, 4)) == 0:
        form = draw(st.sampled_from(["reexpanded", "absorbed", "cached_expanded"]))
        latent = Latent(5, draw(st.sampled_from([None, 7])), 3, 4, d_head, 1e-6, form)
        kinds = [replace(k, rope=None if k.rope is None else replace(k.rope, size=4)) for k in kinds]
        n_kv_heads = n_heads
    if draw(st.integers(0, 3)) == 0:
        experts = Experts(
            4, draw(st.integers(1, 4)), 6, draw(st.sampled_from(["softmax", "chosen", "sigmoid"])),
            normalize=draw(st.booleans()), d_shared=draw(st.sampled_from([0, 5])), bias=draw(st.booleans()),
        )  # fmt: skip
        kinds[-1] = replace(kinds[-1], experts=experts)
    norm = draw(st.sampled_from(["rms", "layer"]))
    qk_norm = draw(st.sampled_from([None, None, "head", "each", "whole"]))
    return Config(
        family="llama",
        vocab_size=draw(st.sampled_from([5, 23])),
        max_context=32,
        n_layers=n_layers,
        d_model=draw(st.sampled_from([6, 13])),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        d_ff=draw(st.sampled_from([7, 16])),
        norm=norm,
        norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        activation=draw(st.sampled_from(["gelu", "gelu_tanh", "relu", "silu", "quick_gelu", "tanh"])),
        gated=draw(st.booleans()),
        layers=tuple(kinds),
        residual=draw(
            st.sampled_from(["pre", "pre", "post", "sandwich", "output", "parallel", "parallel_two", "normed"])
        ),
        norm_bias=draw(st.booleans()),
        embedding_norm=draw(st.booleans()),
        qk_norm=None if latent else qk_norm,
        learned_positions=positions == "learned",
        alibi=Alibi(n_heads) if positions == "alibi" and not latent else None,
        latent=latent,
        sinks=draw(st.booleans()) and not latent,
        score_cap=draw(st.sampled_from([None, 3.0])) if not latent else None,
        qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        ff_bias=draw(st.booleans()),
        clip_qkv=draw(st.sampled_from([None, None, 1.0])),
        tied_head=draw(st.booleans()),
        logit_cap=draw(st.sampled_from([None, 5.0])),
    )


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    """Sizes of the chunks in which `length` tokens are fed: any composition of `length`."""
    sizes = []
    while length:
        sizes.append(draw(st.integers(1, length)))
        length -= sizes[-1]
    return sizes
