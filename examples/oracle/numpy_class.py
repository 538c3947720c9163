"""A hand-written NumPy decoder under the oracle: a correct one, and one whose positions restart at 0 in every step."""

import numpy as np

from kvsim import testing


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Loop:
    """A decoder of Llama's architecture; `weights` is a dict of arrays, `weights.config` their sizes."""

    def __init__(self, weights):
        self.w, self.c = weights, weights.config
        self.key_cache = [[] for _ in range(self.c.layers)]
        self.value_cache = [[] for _ in range(self.c.layers)]
        self.seen = 0

    def forward(self, ids):
        """Logits [T, V] of the tokens."""
        return np.stack([self.step(token) for token in ids])

    def step(self, token):
        """Logits [V] of one token: its keys and values are appended to each layer's cache, then its query reads it."""
        x = self.w["model.embed_tokens.weight"][token]
        for layer in range(self.c.layers):
            self.key_cache[layer].append(self.key(layer, x))
            self.value_cache[layer].append(self.value(layer, x))
            x = self.rest(layer, x, self.attention(layer, self.query(layer, x)))
        self.seen += 1
        return self.logits(x)

    def query(self, layer, x):
        return self.rotate(self.project(layer, "q", x))

    def key(self, layer, x):
        return self.rotate(self.project(layer, "k", x))

    def value(self, layer, x):
        return self.project(layer, "v", x)

    def project(self, layer, kind, x):
        y = self.norm(x, f"model.layers.{layer}.input_layernorm.weight")
        return (self.w[f"model.layers.{layer}.self_attn.{kind}_proj.weight"] @ y).reshape(-1, self.c.d_head)

    def rotate(self, x):
        half = self.c.d_head // 2
        angle = self.seen * self.c.rope_theta ** (-np.arange(half) / half)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=1)

    def attention(self, layer, query):
        keys, values = np.stack(self.key_cache[layer], axis=1), np.stack(self.value_cache[layer], axis=1)
        shared = self.c.heads // self.c.kv_heads
        keys, values = np.repeat(keys, shared, axis=0), np.repeat(values, shared, axis=0)
        weights = softmax((keys * query[:, None]).sum(axis=-1) / np.sqrt(self.c.d_head))
        return (weights[:, :, None] * values).sum(axis=1).reshape(-1)

    def rest(self, layer, x, attended):
        at = f"model.layers.{layer}."
        x = x + self.w[at + "self_attn.o_proj.weight"] @ attended
        y = self.norm(x, at + "post_attention_layernorm.weight")
        gate, up = (self.w[f"{at}mlp.{name}_proj.weight"] @ y for name in ("gate", "up"))
        return x + self.w[at + "mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up)

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean() + self.c.norm_eps) * self.w[name]

    def logits(self, x):
        return self.w["lm_head.weight"] @ self.norm(x, "model.norm.weight")


class Restarts(Loop):
    """Each step counts its positions from 0."""

    def forward(self, ids):
        self.seen = 0
        return super().forward(ids)


weights = testing.weights()
testing.assert_split_invariant(lambda: Loop(weights), lambda m, ids: m.forward(ids), weights)
testing.assert_cost(lambda: Loop(weights), lambda m, ids: m.forward(ids), [1] * 7, reference=weights, projected_rows=21)
print("loop: correct at every position, 21 projected rows")
try:
    testing.assert_split_invariant(lambda: Restarts(weights), lambda m, ids: m.forward(ids), weights)
except testing.OracleError as error:
    print(error)
    named = error.facts["diagnosis"]
assert named == ["rope_pos_restarts_at_0"]
