"""A model's arrays, in the order in which they are used: frozen records, no behaviour.

Matrices are [out, in], as Hugging Face's Linear keeps them. `kvsim.blueprint` has all names and shapes.
"""

from dataclasses import dataclass
from typing import Any

Array = Any  # of whichever library runs

# Records of arrays are not compared or printed: methods that nobody calls take time to make.


@dataclass(frozen=True, eq=False, repr=False)
class Linear:
    weight: Array  # [out, in]
    bias: Array | None = None  # [out]


@dataclass(frozen=True, eq=False, repr=False)
class Norm:
    gain: Array | None  # [D]
    bias: Array | None = None  # [D], LayerNorm only


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    query: Linear  # [H·K, D]
    key: Linear  # [G·K, D]
    value: Linear  # [G·K, D]
    output: Linear  # [D, H·K]
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    sinks: Array | None = None  # [H]


@dataclass(frozen=True, eq=False, repr=False)
class LatentAttention:
    """With L the rank of the latent, C of the queries' own, B elements without position, P rotary."""

    query_down: Linear | None  # [C, D]
    query_norm: Norm | None  # [C]
    query: Linear  # [H·(B+P), C] or [H·(B+P), D]
    latent: Linear  # [L+P, D]: the latent and the shared rotary key
    latent_norm: Norm  # [L]
    expand: Linear  # [H·(B+K), L]: for each head its key without position and its value
    output: Linear  # [D, H·K]


@dataclass(frozen=True, eq=False, repr=False)
class FeedForward:
    gate: Linear | None  # [F, D]
    up: Linear  # [F, D]
    down: Linear  # [D, F]


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    router: Linear  # [E, D]
    correction: Array | None  # [E]
    experts: tuple[FeedForward, ...]
    shared: FeedForward | None


@dataclass(frozen=True, eq=False, repr=False)
class Half:
    """The norms around one half of a layer: before it, of what it gives, of the sum."""

    before: Norm | None = None
    branch: Norm | None = None
    total: Norm | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    attention_norms: Half
    attention: Attention | LatentAttention
    cross_norms: Half | None
    cross: Attention | None
    ff_norms: Half
    ff: FeedForward | Mixture


@dataclass(frozen=True, eq=False, repr=False)
class Convolution:
    weight: Array  # [out, in·3], the kernel innermost
    bias: Array  # [out]


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """One stack of layers, and what stands before and after it."""

    tokens: Array | None  # [V, D]; None for an encoder of sound
    positions: Array | None  # [max_context, D], learned positions only
    project_in: Linear | None
    embedding_norm: Norm | None
    convolutions: tuple[Convolution, ...]
    buckets: Array | None  # [buckets, H]
    layers: tuple[Layer, ...]
    final_norm: Norm | None
    project_out: Linear | None
    head: Linear | None  # [V, D]; the very array `tokens` where the head is tied; None for an encoder
    encoder: "Weights | None" = None
