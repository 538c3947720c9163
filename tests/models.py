"""Models for tests: random weights for any config, small enough for hundreds of runs."""

from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

import kvsim
from kvsim.config import Config
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model

# Every size is another number, so that no axis can pass for another: G=3, R=2, H=6, J=5, K=10.
PRIMES = Config(
    family="llama", vocab_size=101, max_context=64, n_layers=2, d_model=13, n_heads=6, n_kv_heads=3, d_head=10, d_ff=17,
    norm="rms", norm_eps=1e-6, activation="silu", gated=True, positions="rope",
)  # fmt: skip
GPT2_LIKE = replace(
    PRIMES, family="gpt2", norm="layer", activation="gelu_tanh", gated=False, positions="learned", qkv_bias=True,
    out_bias=True, ff_bias=True, tied_head=True, n_kv_heads=6,
)  # fmt: skip

# Tolerances, relative to max|logit|: what rounding in the dtype explains, no more.
CLOSE = {"float64": 1e-12, "float32": 1e-5}


@cache
def make_model(config: Config, dtype: str = "float64", seed: int = 0) -> Model:
    return Model(config, random_weights(config, seed), dtype=dtype)


@cache
def demo(dtype: str = "float32") -> Model:
    return kvsim.load("demo", dtype=dtype)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any decoder that kvsim has: norms, positions, head layouts, activations, biases, tied or not."""
    n_kv_heads, group = draw(st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 2), (3, 1), (2, 3)]))
    return Config(
        family="llama",
        vocab_size=draw(st.sampled_from([5, 23])),
        max_context=32,
        n_layers=draw(st.integers(1, 3)),
        d_model=draw(st.sampled_from([6, 13])),
        n_heads=n_kv_heads * group,
        n_kv_heads=n_kv_heads,
        d_head=draw(st.sampled_from([2, 4, 10])),
        d_ff=draw(st.sampled_from([7, 16])),
        norm=draw(st.sampled_from(["rms", "layer"])),
        norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        activation=draw(st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"])),
        gated=draw(st.booleans()),
        positions=draw(st.sampled_from(["rope", "learned"])),
        rope_theta=draw(st.sampled_from([10.0, 10000.0])),
        qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        ff_bias=draw(st.booleans()),
        tied_head=draw(st.booleans()),
    )


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    """Sizes of the chunks in which `length` tokens are fed: any composition of `length`."""
    sizes = []
    while length:
        sizes.append(draw(st.integers(1, length)))
        length -= sizes[-1]
    return sizes
