"""06: a cache that rotates queries and keys by their positions in the whole text."""

from typing import Any

import numpy as np

from kvsim.learn.checking import Given
from kvsim.learn.subject import Subject, Thing
from kvsim.testing.checks.decoders import assert_split_invariant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import Problem, ShapeError, UnreadableError, equal, to_host
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.facts import UNKNOWN
from kvsim.weights import Attention

HEADS = 2
CACHE = "RotaryCache"
AXES = ("heads", "tokens", "d_head")
SAME = 1e-5  # rows rotated by another position differ by much more


def check(given: Given) -> None:
    """OracleError: something is rotated by another position."""
    weights = make_weights(heads=HEADS, kv_heads=HEADS, seed=given.seed)

    decoders: list[WithRotation] = []

    def make() -> WithRotation:
        decoders.append(WithRotation(weights, given.subject))
        return decoders[-1]

    def step(decoder: WithRotation, ids: list[int]) -> Any:
        return decoder.forward(ids).astype(given.subject.dtype)

    try:
        assert_split_invariant(make, step, weights, clear=False, seed=given.seed, dtype=given.subject.dtype)
    except OracleError as error:
        places = [one.place for one in decoders if one.place]
        if places and all(one.counts_calls for one in decoders) and error.facts.get("diagnosis") == [UNKNOWN]:
            raise given.fail(Problem("layer {layer} rotates the query at position {position} as if it stood at {got}",
                                     places[0]), "counted_for_each_layer") from None  # fmt: skip
        raise


class WithRotation(Decoder):
    """The independent decoder, whose rotated queries, and all keys and values, come from the learner's cache.
    `counts_calls`: every query stands where it does if each layer's call counts the new tokens; `place`: the first
    that stands wrong so."""

    def __init__(self, weights: ModelWeights, subject: Subject) -> None:
        super().__init__(weights.config.to_config(), weights.to_weights())
        made = subject.call(CACHE, weights.config.layers, weights.config.rope_theta)
        if not isinstance(made, Thing):
            raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=CACHE,
                                  got=type(made).__name__)  # fmt: skip
        self.cache = made
        self.counts_calls, self.place = True, dict[str, int]()

    def attention(self, layer: int, w: Attention, x: list[Any], start: int) -> list[Any]:
        raw = [np.stack([self.project(one, row) for row in x], axis=1) for one in (w.query, w.key, w.value)]
        got = self.cache.call("update", layer, *raw)
        n_new, n_all = len(x), start + len(x)
        try:
            q, k, v = (to_host(np.asarray(one) if isinstance(one, list) else one)[0] for one in got)
        except (TypeError, ValueError) as error:
            raise UnreadableError("{name} gave {got}, expected the query, all keys and all values", name="update",
                                  got=type(got).__name__) from error  # fmt: skip
        for one, count in ((q, n_new), (k, n_all), (v, n_all)):
            expected = [HEADS, count, self.config.d_head]
            if list(one.shape) != expected:
                raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}", name="update",
                                 got=list(one.shape), axes=", ".join(AXES), expected=expected)  # fmt: skip
        self.compare(layer, q, raw[0], start)
        q, k, v = (one.transpose(1, 0, 2) for one in (q, k, v))
        inputs = AttentionInputs(q, k, v, np.arange(start, n_all), np.arange(n_all), None, self.layer_scale(layer))
        return [self.linear(row, w.output) for row in self.attend(inputs)]

    def compare(self, layer: int, q_HTD: Any, raw_HTD: Any, start: int) -> None:
        """Notes whether the queries stand where they do if each layer's call counts the new tokens."""
        count = q_HTD.shape[1]
        first = start * len(self.config.layers) + layer * count
        rows = [self.rotate(layer, raw_HTD[:, t], first + t) for t in range(count)]
        self.counts_calls &= equal(q_HTD, np.stack(rows, axis=1), SAME)
        if first != start and not self.place:
            self.place = {"layer": layer, "position": start, "got": first}
