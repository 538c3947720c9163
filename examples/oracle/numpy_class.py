"""A hand-written NumPy decoder under the oracle: a correct one, and one whose positions restart at 0 in every step."""

import sys
from pathlib import Path

import numpy as np

from kvsim import testing

sys.path.insert(0, str(Path(__file__).parent.parent / "exercises"))
from tutorial_loop import TutorialLoop


class Repaired(TutorialLoop):
    """The loop of the second exercise, repaired."""

    def prefill(self, token):
        x = self.w["model.embed_tokens.weight"][token]
        for layer in range(self.c.layers):
            self.key_cache[layer].append(self.key(layer, x))
            self.value_cache[layer].append(self.value(layer, x))
            x = self.rest(layer, x, self.attention(layer, self.query(layer, x)))
        self.seen += 1
        return self.logits(x)

    decode = prefill


class Restarts(Repaired):
    """Each step counts its positions from 0."""

    def forward(self, ids):
        self.seen = 0
        return np.stack([self.prefill(token) for token in ids])


weights = testing.weights()
testing.assert_split_invariant(lambda: Repaired(weights), lambda m, ids: m.forward(ids), weights)
testing.assert_cost(
    lambda: Repaired(weights), lambda m, ids: m.forward(ids), [1] * 7, reference=weights, projected_rows=21
)
print("repaired: correct at every position, 21 projected rows")
try:
    testing.assert_split_invariant(lambda: Restarts(weights), lambda m, ids: m.forward(ids), weights)
except testing.OracleError as error:
    print(error)
    named = error.facts["diagnosis"]
assert named == ["rope_pos_restarts_at_0"]
