"""05: a loop over tokens and layers that is to be mended. Keys and values are computed on this side, and counted."""

from dataclasses import replace
from typing import Any

import numpy as np

from kvsim.learn.checking import Given
from kvsim.learn.subject import Functions, Local, Subject, Thing, Weights
from kvsim.testing.bank import BANK
from kvsim.testing.checks.decoders import assert_split_invariant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import Problem, UnreadableError, to_host
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Mismatch
from kvsim.weights import Attention, FeedForward, Layer, Linear

SIZES: dict[str, Any] = {"rope": "learned", "heads": 2, "kv_heads": 2, "context": 8}  # texts have up to 8 tokens
FEED = [1] * 7  # of which the cost is counted
LOOP = "BookLoop"
STRICT, NOT_VISIBLE = "mask_strict_no_self", "new_token_not_visible"


def check(given: Given) -> None:
    """OracleError: the loop is wrong, or computes keys and values again."""
    model = Counted(make_weights(**SIZES, seed=given.seed))

    def make() -> Thing:
        return new_loop(given.subject, model, given.seed)

    def step(loop: Thing, ids: list[int]) -> Any:
        return np.asarray(loop.call("forward", list(ids)), given.subject.dtype)

    try:
        assert_split_invariant(
            make, step, make_weights(**SIZES, seed=given.seed), clear=False, seed=given.seed, dtype=given.subject.dtype
        )
    except OracleError as error:
        raise rename(error) from None
    check_cost(given, model)


def rename(error: OracleError) -> OracleError:
    """The same error with the name that fits a loop over single tokens, which has no mask to be strict: there, a query
    that does not see itself does not see the rows of its step."""
    failure = error.failure
    if not isinstance(failure, Mismatch) or failure.diagnosis is None:
        return error
    named = tuple(
        replace(one, mistake=BANK[NOT_VISIBLE], reading=1) if one.mistake.id == STRICT else one
        for one in failure.diagnosis.candidates
    )
    return OracleError(replace(failure, diagnosis=replace(failure.diagnosis, candidates=named)))


def check_cost(given: Given, model: "Counted") -> None:
    """OracleError: rows of K and V are computed that the cache holds."""
    model.projected = 0
    loop = new_loop(given.subject, model, given.seed)
    for token, count in enumerate(FEED):
        loop.call("forward", [token] * count)
    needed = given.exercise.cost["rows"]
    if model.projected > needed:
        values = {"got": model.projected, "needed": needed}
        raise given.fail(
            Problem("values right, nothing saved: {got} K and V rows projected, {needed} needed", values),
            "nothing_saved_in_loop", rows=model.projected,
        )  # fmt: skip


def new_loop(subject: Subject, model: "Counted", seed: int) -> Thing:
    """The learner's loop over a model. UnreadableError: the class gives none."""
    counted = Functions(key=model.key, value=model.value)
    parts = Local(f"{__name__}:Parts", Weights(**SIZES, seed=seed), counted, subject.dtype)
    made = subject.call(LOOP, parts, model.config.n_layers)
    if not isinstance(made, Thing):
        raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=LOOP,
                              got=type(made).__name__)  # fmt: skip
    return made


def vector(x: Any, size: int, name: str) -> Any:
    """[size]. ValueError: another shape, or no array; raised in the learner's code."""
    try:
        found = to_host(np.asarray(x) if isinstance(x, list) else x)[0]
    except UnreadableError as error:
        raise ValueError(f"{name} takes an array of {size} numbers") from error
    if found.shape != (size,):
        raise ValueError(f"{name} takes an array of shape [{size}], got {list(found.shape)}")
    return found


class Model(Decoder):
    """The independent decoder, whose layers are used one token at a time."""

    def __init__(self, weights: ModelWeights) -> None:
        super().__init__(weights.config.to_config(), weights.to_weights())

    def layer(self, number: Any) -> Layer:
        if type(number) is not int or not 0 <= number < self.config.n_layers:
            raise ValueError(f"layers are 0 to {self.config.n_layers - 1}, got {number}")
        return self.weights.layers[number]

    def heads_of(self, number: Any, x: Any, kind: str) -> Any:
        """[H, K]: the query, key or value of a hidden state in a layer."""
        layer = self.layer(number)
        assert isinstance(layer.attention, Attention)
        row = self.norm(vector(x, self.config.d_model, kind), layer.attention_norms.before)
        linear: Linear = getattr(layer.attention, kind)
        return self.project(linear, row)


class Counted(Model):
    """Keys and values, computed on this side. `projected`: rows of both in layer 0."""

    projected = 0

    def key(self, layer: Any, x: Any) -> Any:
        self.projected += layer == 0
        return self.heads_of(layer, x, "key")

    def value(self, layer: Any, x: Any) -> Any:
        self.projected += layer == 0
        return self.heads_of(layer, x, "value")


class Parts:
    """What the learner's loop is given, in its own process; keys and values come from the other side."""

    def __init__(self, weights: ModelWeights, counted: Any, dtype: str) -> None:
        self._model, self._dtype = Model(weights), dtype
        self.key, self.value = counted.key, counted.value

    def embed(self, token: Any, position: Any) -> Any:
        """[C]"""
        vocab, longest = self._model.config.vocab_size, self._model.config.max_context
        if type(token) is not int or not 0 <= token < vocab:
            raise ValueError(f"token ids are 0 to {vocab - 1}, got {token}")
        if type(position) is not int or not 0 <= position < longest:
            raise ValueError(f"positions are 0 to {longest - 1}, got {position}")
        return self._model.embed(token, position).astype(self._dtype)

    def query(self, layer: Any, x: Any) -> Any:
        """[H, K]"""
        return self._model.heads_of(layer, x, "query").astype(self._dtype)

    def attention(self, query: Any, keys: Any, values: Any) -> Any:
        """[H·K]: one query [H, K] over the keys and values [S, H, K]; nothing of it is masked."""
        shape = (self._model.config.n_heads, self._model.config.d_head)
        q, k, v = (np.asarray(x, np.float64) for x in (query, keys, values))
        if q.shape != shape or k.shape[1:] != shape or k.shape != v.shape:
            raise ValueError(f"attention takes a query {list(shape)} and as many keys as values of that shape, got"
                             f" {list(q.shape)}, {list(k.shape)}, {list(v.shape)}")  # fmt: skip
        n = len(k)
        at = np.array([n - 1]), np.arange(n)
        inputs = AttentionInputs(q[None], k, v, *at, None, self._model.layer_scale(0))
        return self._model.attend(inputs)[0].astype(self._dtype)

    def rest(self, layer: Any, x: Any, attended: Any) -> Any:
        """[C]: the hidden state after the layer."""
        m, one = self._model, self._model.layer(layer)
        assert isinstance(one.attention, Attention)
        assert isinstance(one.ff, FeedForward)
        row = vector(x, m.config.d_model, "rest")
        row = row + m.linear(vector(attended, m.config.n_heads * m.config.d_head, "rest"), one.attention.output)
        return (row + m.feed_forward(one.ff, m.norm(row, one.ff_norms.before))).astype(self._dtype)

    def logits(self, x: Any) -> Any:
        """[V]"""
        return self._model.head(vector(x, self._model.config.d_model, "logits")).astype(self._dtype)
