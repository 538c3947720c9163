"""A decoder in plain loops over positions, written independently of the transformer.

kvsim's own model is checked against it, and the mistakes of the bank are made in it: every step is a method, and a
mistake overrides one. Vectors are NumPy arrays in float64: hidden states [D], heads [heads, K]. There is no matrix
product: elements are multiplied and summed.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kvsim.config import Config, Rope
from kvsim.errors import UsageError, shortened
from kvsim.testing.independent.attention import AttentionInputs, LoopAttention
from kvsim.testing.independent.edits import Edited
from kvsim.testing.independent.products import Products, multiply
from kvsim.testing.independent.rounding import Rounding, exact
from kvsim.testing.independent.rows import PagedRows, QuantisedRows, Rows, SinkRows, WindowRows
from kvsim.weights import Attention, FeedForward, Layer, Linear, Norm, Weights

POLICIES: dict[str, type[Rows]] = {
    "dynamic": Rows, "static": Rows, "window": WindowRows, "sinks": SinkRows, "paged": PagedRows,
    "int8": QuantisedRows,
}  # fmt: skip
OPTIONS = {
    "window": r"(\d+)",
    "sinks": r"(\d+)\+(\d+)",
    "paged": r"(\d+)",
    "int8": r"(?:group=(\d+))?,?(?:residual=(\d+))?",
}  # fmt: skip
# The config fields that must have these values.
COVERED = {
    "residual": "pre", "embedding_norm": False, "final_norm": True, "qk_norm": None, "buckets": None,
    "latent": None, "sinks": False, "score_cap": None, "clip_qkv": None, "d_embedding": None, "embedding_scale": 1.0,
    "head_scale": 1.0, "logit_scale": 1.0, "logit_cap": None, "causal": True, "encoder": None, "norm_gain": True,
}  # fmt: skip


def read_policy(spec: str) -> tuple[str, Any]:
    """The name and options of a policy: "sinks:1+3" gives ("sinks", (1, 3)). UsageError: not one of POLICIES."""
    name, _, text = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name in OPTIONS:
        found = re.fullmatch(OPTIONS[name], text)
        if found:
            numbers = tuple(int(n or usual) for n, usual in zip(found.groups(), (64, 128), strict=False))
            return name, numbers if len(numbers) > 1 else numbers[0]
    elif name in POLICIES:
        return name, None
    raise UsageError("the independent decoder has no cache {spec}", spec=shortened(spec))


def covers(config: Config, policy: str = "dynamic") -> bool:
    """Whether the decoder implements this model with this cache policy."""
    plain = all(getattr(config, name) == value for name, value in COVERED.items())
    ropes = all(k.experts is None and (k.rope is None or _plain_rope(k.rope)) for k in config.layers)
    alibi = config.alibi is None or (not config.alibi.rounded and config.n_heads & (config.n_heads - 1) == 0)
    try:
        read_policy(policy)
    except UsageError:
        return False
    return plain and ropes and alibi and config.activation in ACTIVATIONS


def _plain_rope(rope: Rope) -> bool:
    return rope.kind == "default" and rope.magnitude == 1.0


def _sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "silu": lambda x: x * _sigmoid(x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "gelu": lambda x: np.array([0.5 * e * (1.0 + math.erf(e / math.sqrt(2.0))) for e in x]),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
}


class Decoder(Edited, LoopAttention):
    """A model of `config` with weights in NumPy arrays, and its cache. Tokens may be fed in any chunks.

    `round` is applied to the result of every step. UsageError: a config or policy that it does not cover.
    """

    caches = POLICIES
    products: Products | None = None  # shared by decoders of the same weights

    def __init__(self, config: Config, weights: Weights, policy: str = "dynamic", round: Rounding = exact) -> None:
        if not covers(config, policy):
            raise UsageError(
                "the independent decoder covers pre-norm decoders with plain rotary or learned positions, not {family}"
                " with the cache {policy}",
                family=config.family,
                policy=policy,
            )
        self.config, self.weights, self.policy, self.round = config, weights, policy, round
        self.width = config.d_model
        self.rows = self.new_rows()
        self.seen = 0

    # State

    def new_rows(self) -> list[Rows]:
        """An empty cache for every layer. A layer with a window of its own has a dynamic one, except under `window:W`,
        where the smaller window counts."""
        name, options = read_policy(self.policy)
        own = [k.window is not None and name != "window" for k in self.config.layers]
        return [
            (self.caches["dynamic"] if plain else self.caches[name])(self, i, None if plain else options)
            for i, plain in enumerate(own)
        ]

    def fresh(self) -> "Decoder":
        """A decoder with an empty cache, for the next text."""
        return type(self)(self.config, self.weights, self.policy, self.round)

    def cleared(self) -> "Decoder":
        """The decoder, emptied for the next text."""
        return self.fresh()

    @classmethod
    def attention_only(cls, width: int | None) -> "Decoder":
        """An instance without a model, of which only the attention can be used."""
        decoder = cls.__new__(cls)
        decoder.round, decoder.width = exact, width
        return decoder

    # From ids to logits

    def forward(self, ids: Sequence[int]) -> Any:
        """Logits [T, V] of the T tokens `ids`, which follow those fed before."""
        start = self.seen
        self.step = start, len(ids)
        x = [self.embed(token, start + t) for t, token in enumerate(ids)]
        for layer, w in enumerate(self.weights.layers):
            x = self.block(layer, w, x, start)
        for rows in self.rows:
            rows.commit()
        self.seen = start + len(ids)
        return np.array([self.head(row) for row in x])

    def embed(self, token: int, position: int) -> Any:
        """[D]: the token's embedding, with the learned position if there are any."""
        assert self.weights.tokens is not None
        x = np.asarray(self.weights.tokens[token], np.float64)
        if self.weights.positions is not None:
            x = x + self.weights.positions[self.learned_position(position)]
        return self.round(x)

    def learned_position(self, position: int) -> int:
        """The row of the table of learned positions."""
        return position

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        """The hidden states [D] of the tokens at start, start + 1 ... after one layer."""
        assert isinstance(w.attention, Attention)
        assert isinstance(w.ff, FeedForward)
        attended = self.attention(layer, w.attention, [self.norm(row, w.attention_norms.before) for row in x], start)
        x = [self.round(row + more) for row, more in zip(x, attended, strict=True)]
        return [self.round(row + self.feed_forward(w.ff, self.norm(row, w.ff_norms.before))) for row in x]

    def norm(self, x: Any, w: Norm | None) -> Any:
        """[D]: RMSNorm (arXiv:1910.07467) or LayerNorm (arXiv:1607.06450) of x [D]."""
        assert w is not None
        if self.config.norm == "layer":
            x = x - x.sum() / len(x)
        x = x / math.sqrt((x * x).sum() / len(x) + self.config.norm_eps)
        x = x * w.gain
        return self.round(x if w.bias is None else x + w.bias)

    def linear(self, x: Any, w: Linear) -> Any:
        """[out]: W x + b for x [in] and W [out, in]."""
        y = multiply(w.weight, x) if self.products is None else self.products.multiply(w.weight, x)
        return self.round(y if w.bias is None else y + w.bias)

    def feed_forward(self, w: FeedForward, x: Any) -> Any:
        """[D]: the feed-forward layer of x [D], gated (arXiv:2002.05202) where there is a gate."""
        act = ACTIVATIONS[self.config.activation]
        if w.gate is None:
            return self.linear(self.round(act(self.linear(x, w.up))), w.down)
        hidden = self.round(act(self.linear(x, w.gate))) * self.linear(x, w.up)
        return self.linear(self.round(hidden), w.down)

    def head(self, x: Any) -> Any:
        """Logits [V] of a hidden state [D]."""
        assert self.weights.head is not None
        return self.linear(self.norm(x, self.weights.final_norm), self.weights.head)

    # Attention

    def project(self, w: Linear, x: Any) -> Any:
        """[heads, K]: a projection of x [D], split into heads."""
        return self.linear(x, w).reshape(-1, self.config.d_head)

    def project_value(self, w: Attention, x: Any) -> Any:
        """[G, K]: the value of x [D]."""
        return self.project(w.value, x)

    def attention(self, layer: int, w: Attention, x: list[Any], start: int) -> list[Any]:
        """The outputs [D] of a layer's attention for the tokens at start, start + 1 ..."""
        q = [self.project(w.query, row) for row in x]
        k = [self.project(w.key, row) for row in x]
        v = [self.project_value(w, row) for row in x]
        positions = self.rotary_positions(layer, start, len(x))
        parts = self.rows[layer].update(start, q, k, v, positions)
        return [self.linear(row, w.output) for inputs in parts for row in self.attend(inputs)]

    def layer_scale(self, layer: int) -> float:
        """The factor on the scores: 1/sqrt(K) unless the config has another."""
        scale = self.config.layers[layer].scale
        return 1.0 / math.sqrt(self.config.d_head) if scale is None else scale

    def bias(self, inputs: AttentionInputs) -> Any:
        """ALiBi (arXiv:2108.12409): slope · (key position - query position), with the slope 2^(-8 h / heads) of head h,
        from 1."""
        alibi = self.config.alibi if hasattr(self, "config") else None
        if alibi is None:
            return 0.0
        slopes = [2.0 ** (-8 * (head + 1) / alibi.n_heads) for head in range(alibi.n_heads)]
        distance_TS = inputs.key_pos - inputs.query_pos[:, None]
        return np.array(slopes)[:, None, None] * distance_TS * alibi.scale

    # Rotary positions

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        """The positions that the new tokens are rotated by."""
        return list(range(start, start + count))

    def encode_query(self, layer: int, x: Any, position: int) -> Any:
        """A query [H, K] with its position encoded."""
        return self.rotate(layer, x, position)

    def encode_key(self, layer: int, x: Any, position: int) -> Any:
        """A key [G, K] with its position encoded."""
        return self.rotate(layer, x, position)

    def encode_value(self, layer: int, x: Any, position: int) -> Any:
        """A value [G, K], in which no position is encoded."""
        return x

    def rotate(self, layer: int, x: Any, position: int) -> Any:
        """Every head of x [heads, K], rotated; unchanged in a layer without rotary positions."""
        rope = self.config.layers[layer].rope
        return x if rope is None else self.rotate_pairs(rope, x, position)

    def pairs(self, rope: Rope) -> list[tuple[int, int]]:
        """The indices of the two elements of each pair."""
        half = rope.size // 2
        return [(j, half + j) if rope.pairs == "halves" else (2 * j, 2 * j + 1) for j in range(half)]

    def rotate_pairs(self, rope: Rope, x: Any, position: int) -> Any:
        """x [..., K] with pair j rotated by the angle position · theta^(-2j / size) (arXiv:2104.09864)."""
        one, other = split_pairs(tuple(self.pairs(rope)))
        cos, sin = cos_sin(rope.theta, rope.size, position)
        cos, sin = self.round(cos), self.round(sin)
        first, second, rotated = x[..., one], x[..., other], x.copy()
        rotated[..., one] = first * cos - second * sin
        rotated[..., other] = second * cos + first * sin
        return self.round(rotated)


@lru_cache(maxsize=64)
def split_pairs(pairs: tuple[tuple[int, int], ...]) -> tuple[Any, Any]:
    """The indices of the first elements of all pairs, and those of the second: as slices, which are fast, where they
    are evenly spaced."""
    return _as_slice([one for one, _ in pairs]), _as_slice([other for _, other in pairs])


def _as_slice(indices: list[int]) -> Any:
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    even = list(range(indices[0], indices[0] + step * len(indices), step)) == indices if step > 0 else False
    return slice(indices[0], indices[-1] + 1, step) if even else np.array(indices)


@lru_cache(maxsize=4096)
def cos_sin(theta: float, size: int, position: int) -> tuple[Any, Any]:
    """cos and sin [size / 2] of position · theta^(-2j / size) for the pairs j."""
    angles = [position / theta ** (2 * j / size) for j in range(size // 2)]
    return np.array([math.cos(a) for a in angles]), np.array([math.sin(a) for a in angles])
