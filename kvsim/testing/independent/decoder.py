"""A decoder in plain loops over positions, written independently of the transformer: what kvsim's own model is checked
against, and what mistakes are made in. Every step is a method, and a mistake overrides one.

Rows are NumPy arrays in float64: x [D], a head's [K]. No matrix product: multiply, then add up.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kvsim.config import Config, Rope
from kvsim.errors import UsageError, shortened
from kvsim.testing.independent.attending import Attending
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
PLAIN = {
    "residual": "pre", "embedding_norm": False, "final_norm": True, "qk_norm": None, "alibi": None, "buckets": None,
    "latent": None, "sinks": False, "score_cap": None, "clip_qkv": None, "d_embedding": None, "embedding_scale": 1.0,
    "head_scale": 1.0, "logit_scale": 1.0, "logit_cap": None, "causal": True, "encoder": None, "norm_gain": True,
}  # fmt: skip


def read_policy(spec: str) -> tuple[str, Any]:
    """ "sinks:1+3" -> ("sinks", (1, 3)). UsageError: a policy that the decoder does not have."""
    name, _, text = spec.partition(":")
    if name in OPTIONS:
        found = re.fullmatch(OPTIONS[name], text)
        if found:
            numbers = tuple(int(n or usual) for n, usual in zip(found.groups(), (64, 128), strict=False))
            return name, numbers if len(numbers) > 1 else numbers[0]
    elif name in POLICIES:
        return name, None
    raise UsageError("the independent decoder has no cache {spec}", spec=shortened(spec))


def covers(config: Config, policy: str = "dynamic") -> bool:
    """Can the decoder be this model, with this cache?"""
    plain = all(getattr(config, name) == value for name, value in PLAIN.items())
    ropes = all(k.experts is None and (k.rope is None or _plain_rope(k.rope)) for k in config.layers)
    try:
        read_policy(policy)
    except UsageError:
        return False
    return plain and ropes and config.activation in ACTIVATIONS


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


class Decoder(Attending):
    """A model of `config` with host arrays `weights`, and its cache: feed it tokens in any chunks.

    UsageError: a config or policy that it does not cover.
    """

    caches = POLICIES

    def __init__(self, config: Config, weights: Weights, policy: str = "dynamic", keep: Rounding = exact) -> None:
        if not covers(config, policy):
            raise UsageError(
                "the independent decoder covers pre-norm decoders with plain rotary or learned positions, not {family}"
                " with the cache {policy}",
                family=config.family,
                policy=policy,
            )
        self.config, self.weights, self.policy, self.keep = config, weights, policy, keep
        self.width = config.d_model
        self.rows = self.new_rows()
        self.seen = 0

    # What a text begins with

    def new_rows(self) -> list[Rows]:
        """A cache for every layer; layers with a window of their own keep that."""
        name, options = read_policy(self.policy)
        own = [k.window is not None and name != "window" for k in self.config.layers]
        return [
            (self.caches["dynamic"] if plain else self.caches[name])(self, i, None if plain else options)
            for i, plain in enumerate(own)
        ]

    def fresh(self) -> "Decoder":
        """The decoder that reads the next text."""
        return type(self)(self.config, self.weights, self.policy, self.keep)

    @classmethod
    def bare(cls, width: int | None) -> "Decoder":
        """Its attention alone, of no model."""
        made = cls.__new__(cls)
        made.keep, made.width = exact, width
        return made

    # From ids to logits

    def forward(self, ids: Sequence[int]) -> Any:
        """Logits [T, V] of the new tokens."""
        start = self.seen
        x = [self.embed(token, start + t) for t, token in enumerate(ids)]
        for layer, w in enumerate(self.weights.layers):
            x = self.block(layer, w, x, start)
        for rows in self.rows:
            rows.commit()
        self.seen = start + len(ids)
        return np.stack([self.head(row) for row in x])

    def embed(self, token: int, position: int) -> Any:
        assert self.weights.tokens is not None
        x = np.asarray(self.weights.tokens[token], np.float64)
        if self.weights.positions is not None:
            x = x + self.weights.positions[self.learned_position(position)]
        return self.keep(x)

    def learned_position(self, position: int) -> int:
        return position

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        assert isinstance(w.attention, Attention)
        assert isinstance(w.ff, FeedForward)
        attended = self.attention(layer, w.attention, [self.norm(row, w.attention_norms.before) for row in x], start)
        x = [self.keep(row + more) for row, more in zip(x, attended, strict=True)]
        return [self.keep(row + self.feed_forward(w.ff, self.norm(row, w.ff_norms.before))) for row in x]

    def norm(self, x: Any, w: Norm | None) -> Any:
        assert w is not None
        if self.config.norm == "layer":
            x = x - x.sum() / len(x)
        x = x / math.sqrt((x * x).sum() / len(x) + self.config.norm_eps)
        x = x * w.gain
        return self.keep(x if w.bias is None else x + w.bias)

    def linear(self, x: Any, w: Linear) -> Any:
        y = (w.weight * x).sum(axis=-1)
        return self.keep(y if w.bias is None else y + w.bias)

    def feed_forward(self, w: FeedForward, x: Any) -> Any:
        act = ACTIVATIONS[self.config.activation]
        if w.gate is None:
            return self.linear(self.keep(act(self.linear(x, w.up))), w.down)
        hidden = self.keep(act(self.linear(x, w.gate))) * self.linear(x, w.up)
        return self.linear(self.keep(hidden), w.down)

    def head(self, x: Any) -> Any:
        assert self.weights.head is not None
        return self.linear(self.norm(x, self.weights.final_norm), self.weights.head)

    # Attention

    def project(self, w: Linear, x: Any) -> Any:
        """[heads, K]."""
        return self.linear(x, w).reshape(-1, self.config.d_head)

    def project_value(self, w: Attention, x: Any) -> Any:
        return self.project(w.value, x)

    def attention(self, layer: int, w: Attention, x: list[Any], start: int) -> list[Any]:
        q = [self.project(w.query, row) for row in x]
        k = [self.project(w.key, row) for row in x]
        v = [self.project_value(w, row) for row in x]
        positions = self.rotary_positions(layer, start, len(x))
        looks = self.rows[layer].update(start, q, k, v, positions)
        return [self.linear(row, w.output) for look in looks for row in self.attend(look)]

    def layer_scale(self, layer: int) -> float:
        scale = self.config.layers[layer].scale
        return 1.0 / math.sqrt(self.config.d_head) if scale is None else scale

    # Rotary positions

    def rotary_positions(self, layer: int, start: int, count: int) -> list[int]:
        """What the new tokens are rotated by."""
        return list(range(start, start + count))

    def encode_query(self, layer: int, x: Any, position: int) -> Any:
        return self.rotate(layer, x, position)

    def encode_key(self, layer: int, x: Any, position: int) -> Any:
        return self.rotate(layer, x, position)

    def encode_value(self, layer: int, x: Any, position: int) -> Any:
        return x

    def rotate(self, layer: int, x: Any, position: int) -> Any:
        """Every head of x [heads, K], turned."""
        rope = self.config.layers[layer].rope
        return x if rope is None else self.turn(rope, x, position)

    def pairs(self, rope: Rope) -> list[tuple[int, int]]:
        """Which elements turn together."""
        half = rope.size // 2
        return [(j, half + j) if rope.pairs == "halves" else (2 * j, 2 * j + 1) for j in range(half)]

    def turn(self, rope: Rope, x: Any, position: int) -> Any:
        """x [..., K], each pair turned by position · theta^(-2j / size)."""
        one, other = sides(tuple(self.pairs(rope)))
        cos, sin = turns(rope.theta, rope.size, position)
        cos, sin = self.keep(cos), self.keep(sin)
        first, second, turned = x[..., one], x[..., other], x.copy()
        turned[..., one] = first * cos - second * sin
        turned[..., other] = second * cos + first * sin
        return self.keep(turned)


@lru_cache(maxsize=64)
def sides(pairs: tuple[tuple[int, int], ...]) -> tuple[Any, Any]:
    """Indices of the first elements of all pairs, and of the second."""
    return np.array([one for one, _ in pairs]), np.array([other for _, other in pairs])


@lru_cache(maxsize=4096)
def turns(theta: float, size: int, position: int) -> tuple[Any, Any]:
    """cos and sin of position · theta^(-2j / size), one for each pair."""
    angles = [position / theta ** (2 * j / size) for j in range(size // 2)]
    return np.array([math.cos(a) for a in angles]), np.array([math.sin(a) for a in angles])
