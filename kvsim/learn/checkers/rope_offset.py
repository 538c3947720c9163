"""06: a cache that rotates queries and keys by their positions in the whole text."""

from typing import Any

import numpy as np

from kvsim.learn.checking import Given
from kvsim.learn.subject import Subject, Thing
from kvsim.testing.checks.decoders import assert_split_invariant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import ShapeError, UnreadableError, to_host
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.weights import Attention

HEADS = 2
CACHE = "RotaryCache"
AXES = ("heads", "tokens", "d_head")


def check(given: Given) -> None:
    """OracleError: something is rotated by another position."""
    weights = make_weights(heads=HEADS, kv_heads=HEADS, seed=given.seed)

    def make() -> WithRotation:
        return WithRotation(weights, given.subject)

    def step(decoder: WithRotation, ids: list[int]) -> Any:
        return decoder.forward(ids).astype(given.subject.dtype)

    assert_split_invariant(make, step, weights, clear=False, seed=given.seed, dtype=given.subject.dtype)


class WithRotation(Decoder):
    """The independent decoder, whose rotated queries, and all keys and values, come from the learner's cache."""

    def __init__(self, weights: ModelWeights, subject: Subject) -> None:
        super().__init__(weights.config.to_config(), weights.to_weights())
        made = subject.call(CACHE, weights.config.layers, weights.config.rope_theta)
        if not isinstance(made, Thing):
            raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=CACHE,
                                  got=type(made).__name__)  # fmt: skip
        self.cache = made

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
        q, k, v = (one.transpose(1, 0, 2) for one in (q, k, v))
        inputs = AttentionInputs(q, k, v, np.arange(start, n_all), np.arange(n_all), None, self.layer_scale(layer))
        return [self.linear(row, w.output) for row in self.attend(inputs)]
