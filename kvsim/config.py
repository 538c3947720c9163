"""What a decoder-only model is: one frozen record of facts, no behaviour.

A model family is a choice of these fields, not a class of its own. `kvsim.loading.families` fills
them from a config.json, and refuses what contradicts itself.
"""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


@dataclass(frozen=True)
class Config:
    """The facts of a model. Sizes are counts of elements, contexts are counts of tokens."""

    family: str  # "llama", "gpt2": the model_type that it was read from
    vocab_size: int
    max_context: int  # positions the model was made for
    n_layers: int
    d_model: int
    n_heads: int  # query heads
    n_kv_heads: int  # n_heads: multi-head; 1: multi-query; between: grouped-query attention
    d_head: int
    d_ff: int  # width of the feed-forward layer
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Activation
    gated: bool  # feed-forward: down(act(gate x) * up x), else down(act(up x))
    positions: Literal["rope", "learned"]
    rope_theta: float = 10000.0  # base of the rotary frequencies; unused with learned positions
    qkv_bias: bool = False
    out_bias: bool = False  # of attention's output projection
    ff_bias: bool = False
    tied_head: bool = False  # the head is the token embedding
