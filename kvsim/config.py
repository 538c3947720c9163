"""The facts that define a model: frozen records without behaviour.

A model family is a choice of these fields, not a class of its own. `kvsim.loading.families` fills
them from a config.json and refuses contradictions.
"""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "quick_gelu", "tanh", "bloom_gelu", "clipped_swiglu"]
Pairs = Literal["halves", "adjacent"]
RopeKind = Literal["default", "linear", "dynamic", "yarn", "longrope", "llama3"]
BY_LENGTH = ("dynamic", "longrope")  # whose frequencies change with the current length

# Where a layer normalises, for each of its two halves f: what is normalised, and what is added.
#   pre           x + f(norm x)
#   post          norm(x + f(x))
#   sandwich      x + norm(f(norm x))
#   output        x + norm(f(x))
#   parallel      x + attention(norm x) + feed_forward(norm x), one norm for both
#   parallel_two  x + attention(norm x) + feed_forward(norm' x)
#   normed        y + f(y) with y = norm x: what is added is normalised too
Residual = Literal["pre", "post", "sandwich", "output", "parallel", "parallel_two", "normed"]


@dataclass(frozen=True, match_args=False)
class Rope:
    """Rotary positions: frequencies theta^(-2j/size), changed as `kind` says."""

    theta: float
    size: int  # elements of each head that are rotated; the others are not
    pairs: Pairs = "halves"  # (j, size/2 + j), or (2j, 2j + 1)
    reordered: bool = False  # pairs are adjacent in the stored weights and reordered to halves when read
    kind: RopeKind = "default"
    factor: float = 1.0  # the context is this many times the trained one
    original: int = 0  # the trained context
    low: float = 1.0  # llama3's low_freq_factor
    high: float = 4.0  # llama3's high_freq_factor
    fast: float = 32.0  # yarn's beta_fast
    slow: float = 1.0  # yarn's beta_slow
    truncate: bool = True  # yarn: round the ends of the ramp to integers
    short: tuple[float, ...] = ()  # longrope's divisors up to `original` tokens
    long: tuple[float, ...] = ()  # and beyond
    magnitude: float = 1.0  # factor on cosine and sine


@dataclass(frozen=True, match_args=False)
class Alibi:
    """Linear position biases (arXiv:2108.12409): slope · (key position - query position)."""

    n_heads: int  # a slope for each, which `kvsim.transformer.alibi` computes
    order: Literal["paper", "mpt"] = "paper"  # of the slopes, where the heads are no power of two
    rounded: bool = False  # slope · key position, each rounded to bfloat16 (Falcon)
    scale: float = 1.0  # factor on the bias


@dataclass(frozen=True, match_args=False)
class Buckets:
    """Relative position biases in logarithmic buckets, a learned number for each head (T5)."""

    count: int
    max_distance: int


@dataclass(frozen=True, match_args=False)
class Experts:
    """A mixture of experts as feed-forward layer."""

    count: int
    chosen: int  # experts per token
    d_ff: int
    # softmax: over all, then choose; chosen: choose, then softmax over the chosen; sigmoid: of each score
    router: Literal["softmax", "chosen", "sigmoid"] = "softmax"
    normalize: bool = False  # normalise the weights of the chosen to sum 1
    scale: float = 1.0  # factor on their weights
    groups: int = 1  # groups of consecutive experts
    kept_groups: int = 1  # groups that experts are chosen from
    group_score: Literal["best", "best_two"] = "best"
    correction: bool = False  # a bias added to the scores only for choosing
    d_shared: int = 0  # width of the expert that every token goes through; 0: none
    bias: bool = False  # of the router and of every expert


@dataclass(frozen=True, match_args=False)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434)."""

    rank: int  # size of the latent from which keys and values are computed
    q_rank: int | None  # size of the latent of queries; None: queries have none
    d_nope: int  # elements of a key without position
    d_rope: int  # elements of the rotary key, shared by all heads
    d_value: int
    norm_eps: float
    form: Literal["reexpanded", "absorbed", "cached_expanded"] = "reexpanded"


@dataclass(frozen=True, match_args=False)
class LayerKind:
    """What may differ from layer to layer."""

    rope: Rope | None = None
    window: int | None = None  # a query sees its own position and window - 1 before it
    scale: float | None = None  # of the scores; None: 1/sqrt(d_head)
    experts: Experts | None = None  # None: a dense feed-forward layer


@dataclass(frozen=True, match_args=False)
class Audio:
    """Features through two convolutions of width 3, the second with stride 2 (Whisper)."""

    n_mels: int


@dataclass(frozen=True, match_args=False)
class Config:
    """The facts of a model. Sizes are counts of elements, contexts are counts of tokens."""

    family: str  # the model_type that it was read from
    vocab_size: int
    max_context: int  # positions in training
    n_layers: int
    d_model: int
    n_heads: int  # query heads
    n_kv_heads: int  # n_heads: multi-head; 1: multi-query; between: grouped-query attention
    d_head: int
    d_ff: int  # width of the dense feed-forward layers
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Activation
    gated: bool  # feed-forward: down(act(gate x) * up x), else down(act(up x))
    layers: tuple[LayerKind, ...]  # one for each layer

    residual: Residual = "pre"
    norm_gain: bool = True
    norm_bias: bool = True  # of LayerNorm; RMSNorm has none
    embedding_norm: bool = False
    final_norm: bool = True
    qk_norm: Literal["head", "each", "whole"] | None = None  # a gain for all heads, per head, over all
    qk_norm_bias: bool = False

    learned_positions: bool = False
    alibi: Alibi | None = None
    buckets: Buckets | None = None
    latent: Latent | None = None
    sinks: bool = False  # a learned score per head that enters the softmax and is then dropped
    score_cap: float | None = None  # cap · tanh(score / cap)

    qkv_bias: bool = False
    key_bias: bool = True  # where qkv_bias: has the key one too? (Whisper: no)
    out_bias: bool = False  # of attention's output projection
    ff_bias: bool = False
    clip_qkv: float | None = None
    d_embedding: int | None = None  # width of the embeddings if they are projected to d_model
    embedding_scale: float = 1.0
    tied_head: bool = False  # the head is the token embedding
    head_bias: bool = False
    head_scale: float = 1.0  # factor on the input of the head
    logit_scale: float = 1.0
    logit_cap: float | None = None

    causal: bool = True  # False: an encoder
    encoder: "Config | None" = None  # of an encoder-decoder; this config is then the decoder's
    audio: Audio | None = None  # the encoder's input is sound
    start_id: int | None = None  # the first token of an encoder-decoder's text
