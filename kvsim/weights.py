"""A model's arrays, in the order in which they are used: frozen records, no behaviour.

Matrices are [out, in], as Hugging Face's Linear keeps them. `build_weights` is the one list of
names and shapes; loaders, random models and counters all go through it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvsim.config import Config

Array = Any  # of whichever library runs


@dataclass(frozen=True)
class Linear:
    weight: Array  # [out, in]
    bias: Array | None = None  # [out]


@dataclass(frozen=True)
class Norm:
    gain: Array  # [D]
    bias: Array | None = None  # [D], LayerNorm only


@dataclass(frozen=True)
class Attention:
    query: Linear  # [H·K, D]
    key: Linear  # [G·K, D]
    value: Linear  # [G·K, D]
    output: Linear  # [D, H·K]


@dataclass(frozen=True)
class FeedForward:
    gate: Linear | None  # [F, D]
    up: Linear  # [F, D]
    down: Linear  # [D, F]


@dataclass(frozen=True)
class Layer:
    attention_norm: Norm
    attention: Attention
    ff_norm: Norm
    ff: FeedForward


@dataclass(frozen=True)
class Weights:
    tokens: Array  # [V, D]
    positions: Array | None  # [max_context, D], learned positions only
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Linear  # [V, D]; the very array `tokens` where the head is tied


Make = Callable[[str, tuple[int, ...]], Array]


def build_weights(config: Config, make: Make) -> Weights:
    """All arrays of `config`, each made by `make(name, shape)`, once, in the order of use.

    Names are `tokens`, `positions`, `layers.3.query.weight`, `layers.3.attention_norm.gain`,
    `final_norm.bias`, `head.weight` and so on.
    """
    d, f = config.d_model, config.d_ff
    q, kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head

    def linear(name: str, n_out: int, n_in: int, bias: bool) -> Linear:
        weight = make(f"{name}.weight", (n_out, n_in))
        return Linear(weight, make(f"{name}.bias", (n_out,)) if bias else None)

    def norm(name: str) -> Norm:
        gain = make(f"{name}.gain", (d,))
        return Norm(gain, make(f"{name}.bias", (d,)) if config.norm == "layer" else None)

    def layer(at: str) -> Layer:
        return Layer(
            attention_norm=norm(f"{at}.attention_norm"),
            attention=Attention(
                query=linear(f"{at}.query", q, d, config.qkv_bias),
                key=linear(f"{at}.key", kv, d, config.qkv_bias),
                value=linear(f"{at}.value", kv, d, config.qkv_bias),
                output=linear(f"{at}.output", d, q, config.out_bias),
            ),
            ff_norm=norm(f"{at}.ff_norm"),
            ff=FeedForward(
                gate=linear(f"{at}.gate", f, d, config.ff_bias) if config.gated else None,
                up=linear(f"{at}.up", f, d, config.ff_bias),
                down=linear(f"{at}.down", d, f, config.ff_bias),
            ),
        )

    tokens = make("tokens", (config.vocab_size, d))
    learned = config.positions == "learned"
    return Weights(
        tokens=tokens,
        positions=make("positions", (config.max_context, d)) if learned else None,
        layers=tuple(layer(f"layers.{i}") for i in range(config.n_layers)),
        final_norm=norm("final_norm"),
        head=Linear(tokens) if config.tied_head else linear("head", config.vocab_size, d, bias=False),
    )
