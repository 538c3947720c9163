"""Independent torch decoders, whose operations `assert_cost` counts. They share no code with kvsim."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn


class Plain:
    """Plain tensors, heads first, attention from matrix products; keys and values extended by torch.cat."""

    dtype = torch.float64

    def __init__(self, weights):
        self.c, self.seen, self.rows = weights.config, 0, [None] * weights.config.layers
        self.w = {name: self.load(x) for name, x in weights.items()}

    def load(self, x):
        return torch.from_numpy(np.asarray(x)).to(self.dtype)

    def linear(self, x, name):
        return x @ self.w[name].T

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c.norm_eps) * self.w[name]

    def split(self, x):
        return x.view(len(x), -1, self.c.d_head).transpose(0, 1)

    def rope(self, x, start):
        half = self.c.d_head // 2
        pos = torch.arange(start, start + x.shape[1], dtype=torch.float64)
        angle = torch.outer(pos, self.c.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half))
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def remember(self, layer, y):
        """Keys and values [G, S, K] of all tokens."""
        k, v = self.project(layer, y, self.seen)
        if self.rows[layer] is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip(self.rows[layer], (k, v), strict=True))
        self.rows[layer] = k, v
        return k, v

    def project(self, layer, y, start):
        at = f"model.layers.{layer}.self_attn."
        k, v = (self.split(self.linear(y, f"{at}{p}_proj.weight")) for p in "kv")
        return self.rope(k, start), v

    def query(self, layer, y):
        return self.rope(self.split(self.linear(y, f"model.layers.{layer}.self_attn.q_proj.weight")), self.seen)

    def attend(self, q, k, v):
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        shared = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
        scores = (q @ k.mT / math.sqrt(self.c.d_head)).masked_fill(~mask, -math.inf)
        return scores.softmax(-1) @ v

    def layer(self, i, x):
        at = f"model.layers.{i}."
        y = self.norm(x, at + "input_layernorm.weight")
        q = self.query(i, y)
        attended = self.attend(q, *self.remember(i, y)).transpose(0, 1).reshape(len(x), -1)
        x = x + self.linear(attended, at + "self_attn.o_proj.weight")
        y = self.norm(x, at + "post_attention_layernorm.weight")
        hidden = F.silu(self.linear(y, at + "mlp.gate_proj.weight")) * self.linear(y, at + "mlp.up_proj.weight")
        return x + self.linear(hidden, at + "mlp.down_proj.weight")

    def forward(self, ids):
        x = self.w["model.embed_tokens.weight"][torch.tensor(ids)]
        for i in range(self.c.layers):
            x = self.layer(i, x)
        self.seen += len(ids)
        return self.linear(self.norm(x, "model.norm.weight"), "lm_head.weight")


class Fused(Plain):
    """Attention by scaled_dot_product_attention."""

    def attend(self, q, k, v):
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=True)[0]


class Modules(Plain):
    """Copies of the weights in nn.Linear."""

    def __init__(self, weights):
        super().__init__(weights)
        self.modules = {name: self.module(x) for name, x in self.w.items() if x.ndim == 2 and "embed" not in name}

    def module(self, x):
        linear = nn.Linear(x.shape[1], x.shape[0], bias=False, dtype=x.dtype)
        linear.load_state_dict({"weight": x})
        return linear

    def linear(self, x, name):
        return self.modules[name](x)


class ModulesFused(Modules, Fused):
    """Both nn.Linear and scaled_dot_product_attention."""


class Joined(Plain):
    """Query, key and value projected by one matrix; a buffer for 64 tokens, written in place."""

    def remember(self, layer, y):
        at = f"model.layers.{layer}.self_attn."
        made = y @ torch.cat([self.w[f"{at}{p}_proj.weight"] for p in "qkv"]).T
        width, shared = self.c.kv_heads * self.c.d_head, self.c.heads * self.c.d_head
        self.q, k, v = (self.split(part) for part in made.split([shared, width, width], dim=1))
        if self.rows[layer] is None:
            self.rows[layer] = torch.zeros(2, self.c.kv_heads, 64, self.c.d_head, dtype=self.dtype)
        stop = self.seen + len(y)
        self.rows[layer][0, :, self.seen : stop] = self.rope(k, self.seen)
        self.rows[layer][1, :, self.seen : stop] = v
        return self.rows[layer][:, :, :stop]

    def layer(self, i, x):
        at = f"model.layers.{i}."
        y = self.norm(x, at + "input_layernorm.weight")
        k, v = self.remember(i, y)
        attended = self.attend(self.rope(self.q, self.seen), k, v).transpose(0, 1).reshape(len(x), -1)
        x = x + self.linear(attended, at + "self_attn.o_proj.weight")
        y = self.norm(x, at + "post_attention_layernorm.weight")
        hidden = F.silu(self.linear(y, at + "mlp.gate_proj.weight")) * self.linear(y, at + "mlp.up_proj.weight")
        return x + self.linear(hidden, at + "mlp.down_proj.weight")


class Written(Fused):
    """Projections write keys and values into one buffer (`out=`); keys are rotated when they are read."""

    def remember(self, layer, y):
        stop, width = self.seen + len(y), self.c.kv_heads * self.c.d_head
        if self.rows[layer] is None:
            self.rows[layer] = torch.zeros(2, 64, width, dtype=self.dtype)
        for part, rows in zip("kv", self.rows[layer], strict=True):
            torch.mm(y, self.w[f"model.layers.{layer}.self_attn.{part}_proj.weight"].T, out=rows[self.seen : stop])
        k, v = (self.split(rows[:stop]) for rows in self.rows[layer])
        return self.rope(k, 0), v


class Einsum(Plain):
    """Query projections one head at a time, einsum everywhere, under torch.inference_mode."""

    def linear(self, x, name):
        parts = self.w[name].split(self.c.d_head) if "q_proj" in name else [self.w[name]]
        return torch.cat([torch.einsum("td,od->to", x, part) for part in parts], dim=1)

    def attend(self, q, k, v):
        q = q.reshape(self.c.kv_heads, -1, *q.shape[1:])
        scores = torch.einsum("grtd,gsd->grts", q, k) / math.sqrt(self.c.d_head)
        mask = torch.ones(q.shape[2], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[2])
        weights = torch.where(mask, scores, -math.inf).softmax(-1)
        return torch.einsum("grts,gsd->grtd", weights, v).reshape(-1, q.shape[2], q.shape[3])

    def forward(self, ids):
        with torch.inference_mode():
            return super().forward(ids)


RIGHT = [Plain, Fused, Modules, ModulesFused, Joined, Written, Einsum]


def faked(cls):
    """A subclass that stores normed hidden states and projects all keys and values again in every step."""

    class Faked(cls):
        def remember(self, layer, y):
            stored = self.rows[layer]
            self.rows[layer] = y if stored is None else torch.cat([stored, y])
            return self.project(layer, self.rows[layer], 0)

    return Faked


def uncached(cls):
    """A subclass that recomputes everything in every step."""

    class Uncached(cls):
        ids = ()

        def forward(self, ids):
            self.ids = [*self.ids, *ids]
            self.rows, self.seen = [None] * self.c.layers, 0
            return super().forward(self.ids)[-len(ids) :]

    return Uncached


# Decoders whose operations cannot be attributed


class Scaled(Plain):
    """The scale 1/sqrt(d) is folded into the query weights, so these are no weights of the reference."""

    def __init__(self, weights):
        super().__init__(weights)
        for name in self.w:
            self.w[name] = self.w[name] * (0.35 if "q_proj" in name else 1.0)


class Convolution(Plain):
    """A projection by a convolution."""

    def linear(self, x, name):
        return F.conv1d(x.T[None], self.w[name][:, :, None])[0].T if "k_proj" in name else super().linear(x, name)


class ByHand(Plain):
    """Scores by elementwise products and a sum."""

    def attend(self, q, k, v):
        shared = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
        return (q[:, :, None] * k[:, None]).sum(-1).softmax(-1) @ v


class Distances(Plain):
    """Scores from distances, by an operation that the counter does not support."""

    def attend(self, q, k, v):
        shared = self.c.heads // self.c.kv_heads
        return torch.cdist(q, k.repeat_interleave(shared, 0)).softmax(-1) @ v.repeat_interleave(shared, 0)


class ThroughNumPy(Plain):
    """Keys and values pass through NumPy arrays."""

    def remember(self, layer, y):
        k, v = super().remember(layer, y)
        return torch.from_numpy(k.numpy().copy()), torch.from_numpy(v.numpy().copy())


class FusedThroughNumPy(ThroughNumPy, Fused):
    """The same with scaled_dot_product_attention."""


class DecodesInNumPy(Plain):
    """Single tokens attend in NumPy, which the counter does not observe."""

    def attend(self, q, k, v):
        if q.shape[1] > 1:
            return super().attend(q, k, v)
        shared = self.c.heads // self.c.kv_heads
        q, k, v = q.numpy(), np.repeat(k.numpy(), shared, axis=0), np.repeat(v.numpy(), shared, axis=0)
        e = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(self.c.d_head))
        return torch.from_numpy(e / e.sum(axis=-1, keepdims=True) @ v)


class WeighsByHand(Plain):
    """The weighted sum of values by elementwise products and a sum."""

    def attend(self, q, k, v):
        shared = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
        return ((q @ k.mT).softmax(-1)[..., None] * v[:, None]).sum(2)


class AbsorbedKeys(Plain):
    """Queries are multiplied by the key weights, and the result by hidden states: no keys are computed."""

    def remember(self, layer, y):
        stored = self.rows[layer]
        self.rows[layer] = y if stored is None else torch.cat([stored, y])
        return self.rows[layer], self.project(layer, self.rows[layer], 0)[1]

    def attend(self, q, y, v):
        shared = self.c.heads // self.c.kv_heads
        w = self.w["model.layers.0.self_attn.k_proj.weight"].view(self.c.kv_heads, self.c.d_head, -1)
        scores = q @ w.repeat_interleave(shared, 0) @ y.T
        return scores.softmax(-1) @ v.repeat_interleave(shared, 0)


class WeightsByHand(Plain):
    """A projection by elementwise products and a sum."""

    def linear(self, x, name):
        return (x[:, None] * self.w[name]).sum(-1) if "v_proj" in name else super().linear(x, name)


UNATTRIBUTED = {
    Scaled: "uses no weight of the reference",
    Convolution: "convolution",
    ByHand: "queries and keys were multiplied elementwise",
    Distances: "_cdist_forward",
    ThroughNumPy: "cannot be identified as queries times keys",
    FusedThroughNumPy: "attention was given arrays",
    DecodesInNumPy: "cannot be identified as the output of attention",
    WeighsByHand: "attention weights and values were multiplied",
    AbsorbedKeys: "not a hidden state",
    WeightsByHand: "weights were multiplied",
}
