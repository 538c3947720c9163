"""A decoder with two mistakes, for `kvsim verify`: layers read the embedding, and decode steps do not append."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class TutorialLoop:
    """A decoder of Llama's architecture; `weights` is a dict of arrays, `weights.config` their sizes."""

    def __init__(self, weights):
        self.w, self.c = weights, weights.config
        self.key_cache = [[] for _ in range(self.c.layers)]
        self.value_cache = [[] for _ in range(self.c.layers)]
        self.seen = 0

    def forward(self, ids):
        """Logits [T, V] of the tokens."""
        step = self.decode if self.seen else self.prefill
        return np.stack([step(token) for token in ids])

    def prefill(self, token):
        """A token of the prompt: its keys and values are appended to each layer's cache."""
        x = first = self.w["model.embed_tokens.weight"][token]
        for layer in range(self.c.layers):
            self.key_cache[layer].append(self.key(layer, first))
            self.value_cache[layer].append(self.value(layer, first))
            x = self.rest(layer, x, self.attention(layer, self.query(layer, first)))
        self.seen += 1
        return self.logits(x)

    def decode(self, token):
        """A later token: its query attends to the cached keys and values."""
        x = new_token = self.w["model.embed_tokens.weight"][token]
        for layer in range(self.c.layers):
            query = self.query(layer, new_token)
            x = self.rest(layer, x, self.attention(layer, query))
        self.seen += 1
        return self.logits(x)

    # What follows is correct.

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
