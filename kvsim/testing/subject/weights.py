"""Random weights under Hugging Face's Llama names, for a decoder under test and for kvsim's own model alike."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.blueprint import build_weights
from kvsim.checks import check_function, check_kind, check_number, check_whole, is_name
from kvsim.config import Alibi, Config, LayerKind, Rope
from kvsim.errors import UsageError, Words, shortened
from kvsim.testing.independent.rounding import exact, format_name, rounding
from kvsim.testing.subject.calls import UnreadableError, to_host
from kvsim.testing.subject.room import TOKEN, attention_work, check_room
from kvsim.text import one_line
from kvsim.weights import Weights

ROPES = {"half": "halves", "pairs": "adjacent"}
LAYER_NAMES = {
    "attention_norm.gain": "input_layernorm.weight", "query.weight": "self_attn.q_proj.weight",
    "key.weight": "self_attn.k_proj.weight", "value.weight": "self_attn.v_proj.weight",
    "output.weight": "self_attn.o_proj.weight", "ff_norm.gain": "post_attention_layernorm.weight",
    "gate.weight": "mlp.gate_proj.weight", "up.weight": "mlp.up_proj.weight", "down.weight": "mlp.down_proj.weight",
}  # fmt: skip
MODEL_NAMES = {
    "tokens": "model.embed_tokens.weight", "positions": "model.embed_positions.weight",
    "final_norm.gain": "model.norm.weight", "head.weight": "lm_head.weight",
}  # fmt: skip
ARRAYS_SIZE = 2_000  # numbers of 8 bytes: what the nine arrays of a layer take even if they are empty
MINIMUM = {"vocab": 2, "context": 8}  # a check feeds texts of up to 8 tokens even where nothing needs longer ones


@dataclass(frozen=True)
class Sizes:
    """What a decoder must know besides the arrays. It has RMSNorm before both halves of a layer, SwiGLU and no biases.

    UsageError: sizes that do not fit together.
    """

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    d_head: int = 8
    window: int | None = None  # a query sees its own key and window - 1 before it
    rope: str | None = "half"  # pairs (j, d/2 + j); "pairs": (2j, 2j + 1); "learned", "alibi", None
    d_model: int = 24
    d_ff: int = 40
    vocab: int = 31
    context: int = 64
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.rope is not None and not is_name(self.rope, (*ROPES, "learned", "alibi")):
            raise UsageError("unknown rope {got}: use half, pairs, learned, alibi or None", got=shortened(self.rope))
        for name in ("layers", "heads", "kv_heads", "d_head", "window", "d_model", "d_ff", "vocab", "context"):
            if name != "window" or self.window is not None:
                object.__setattr__(self, name, check_whole(name, getattr(self, name), MINIMUM.get(name, 1)))
        for name in ("rope_theta", "norm_eps"):
            object.__setattr__(self, name, check_number(name, getattr(self, name)))
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError("{name} must be a number above 0, got {got}", name=name, got=getattr(self, name))
        if self.heads % self.kv_heads or self.d_head % 2:
            raise UsageError(
                "sizes are at least 1, heads a multiple of kv_heads and d_head even: got {heads} heads, {kv_heads}"
                " kv_heads, d_head {d_head}, {layers} layers, window {window}",
                heads=self.heads,
                kv_heads=self.kv_heads,
                d_head=self.d_head,
                layers=self.layers,
                window=self.window,
            )

    @property
    def numbers(self) -> int:
        """Numbers in all weights; a layer counts as ARRAYS_SIZE at least, since its arrays take memory of their own."""
        attention = 2 * (self.heads + self.kv_heads) * self.d_head
        layer = self.d_model * (attention + 3 * self.d_ff + 2)
        tables = 2 * self.vocab + (self.context if self.rope == "learned" else 0)
        return self.layers * max(layer, ARRAYS_SIZE) + self.d_model * tables

    def work(self, tokens: int, texts: int = 1) -> int:
        """The multiply-accumulates that take as long as `texts` texts of `tokens` tokens, run in plain loops.

        UsageError: more weights than a check computes with."""
        check_room(self.numbers)
        layer = TOKEN * tokens + attention_work(self.heads, self.d_head, tokens, (tokens + 1) // 2)
        return texts * (tokens * self.numbers + self.layers * layer)

    def to_config(self) -> Config:
        """The same model as a kvsim config. UsageError: more weights than a check computes with."""
        check_room(self.numbers)
        pairs: Any = ROPES.get(self.rope or "")
        rope = Rope(self.rope_theta, self.d_head, pairs) if pairs else None
        return Config(
            family="llama", vocab_size=self.vocab, max_context=self.context, n_layers=self.layers,
            d_model=self.d_model, n_heads=self.heads, n_kv_heads=self.kv_heads, d_head=self.d_head, d_ff=self.d_ff,
            norm="rms", norm_eps=self.norm_eps, activation="silu", gated=True,
            layers=(LayerKind(rope=rope, window=self.window),) * self.layers, learned_positions=self.rope == "learned",
            alibi=Alibi(self.heads) if self.rope == "alibi" else None,
        )  # fmt: skip


class ModelWeights(dict[str, Any]):
    """Arrays by their Hugging Face names, matrices [out, in]. `config`: the sizes of the model; `dtype`: the number
    format of the arrays; `seed`: None unless `make_weights` made them."""

    def __init__(
        self, config: Sizes, arrays: dict[str, Any], dtype: str = "float64", seed: int | None = None
    ) -> None:  # fmt: skip
        check_kind("config", isinstance(config, Sizes), config, Words("the config of weights"))
        check_kind("arrays", isinstance(arrays, dict), arrays, Words("a dict of arrays by their names"))
        super().__init__(arrays)
        self.config, self.dtype = config, format_name(dtype)
        self.seed = None if seed is None else check_whole("seed", seed, 0)

    def __repr__(self) -> str:
        """What the weights are of, in one line of at most 200 characters, and no array."""
        seed = "" if self.seed is None else f"seed={self.seed}, "
        return one_line(f"ModelWeights({len(self)} arrays, {self.dtype}, {seed}{self.config!r})")

    def with_window(self, window: int | None) -> "ModelWeights":
        """The same arrays, for a model with that sliding window (None: full attention)."""
        return ModelWeights(replace(self.config, window=window), dict(self), self.dtype, self.seed)

    def to_weights(self) -> Weights:
        """The record that kvsim's own model takes, in float64. UsageError: a value that is not an array of numbers."""
        return build_weights(self.config.to_config(), lambda name, _: self._read(hf_name(name)))

    def _read(self, name: str) -> Any:
        """One array, of whichever library, as a NumPy array in float64."""
        try:
            return to_host(self[name])[0]
        except UnreadableError as error:
            raise UsageError(
                "weights are arrays of numbers, made of NumPy's by array=: {name} is of {type}",
                name=name,
                type=type(self[name]).__name__,
            ) from error


def hf_name(name: str) -> str:
    """The Hugging Face name of an array, from its name in `kvsim.blueprint`."""
    if name in MODEL_NAMES:
        return MODEL_NAMES[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{LAYER_NAMES[rest]}"


def make_weights(
    dtype: str = "float64", seed: int = 0, array: Callable[[Any], Any] = exact, **sizes: Any
) -> ModelWeights:
    """Random weights, each part of them large enough that a mistake in its use changes the logits visibly.

    The same seed and sizes give the same numbers, rounded to `dtype`. `array` converts each NumPy array, for example
    `torch.from_numpy`. NumPy has no bfloat16 and no fp8: such numbers come in float32, which holds them exactly, and
    `array` loses nothing by `x.astype(ml_dtypes.bfloat16)` or `torch.from_numpy(x).bfloat16()`.

    UsageError: sizes that do not fit together, or an unknown dtype.
    """
    seed = check_whole("seed", seed, 0)
    check_function("array", array)
    config, name = Sizes(**sizes), format_name(dtype)
    keep, kind = rounding(name), name if hasattr(np, name) else "float32"
    generator = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}

    def make(name: str, shape: tuple[int, ...]) -> Any:
        x = generator.standard_normal(shape)
        x = 1.0 + 0.3 * x if name.endswith(".gain") else x * (1.5 / np.sqrt(shape[-1]) if "." in name else 1.0)
        arrays[hf_name(name)] = array(np.asarray(keep(x)).astype(kind))
        return x

    build_weights(config.to_config(), make)
    return ModelWeights(config, arrays, name, seed)
