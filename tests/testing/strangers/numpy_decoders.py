"""Independent NumPy decoders: correct ones in several styles, and wrong ones. A comment on a wrong one states the
expected diagnosis: `# expect: id`, or `# expect: unknown`.

None of them shares code with the package: weights are a dict with Hugging Face's names.
"""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


class NumpyDecoder:
    """x [T, D]; keys and values [G, S, K], heads first, extended by np.concatenate."""

    first_position = 0

    def __init__(self, weights):
        self.w, self.c = weights, weights.config
        self.caches = [None] * self.c.layers
        self.seen = 0

    def norm(self, x, name):
        mean = (x * x).mean(axis=-1, keepdims=True)
        return x / np.sqrt(mean + np.asarray(self.c.norm_eps, x.dtype)) * self.w[name]

    def linear(self, x, name):
        return x @ self.w[name].T

    def split(self, x):
        return x.reshape(len(x), -1, self.c.d_head).transpose(1, 0, 2)

    def rope(self, x, positions):
        """x [heads, T, K]."""
        half = self.c.d_head // 2
        angle = np.outer(positions, self.c.rope_theta ** (-np.arange(half) / half))
        cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def positions(self, layer, n):
        return np.arange(self.seen, self.seen + n) + self.first_position

    def remember(self, layer, k, v):
        if self.caches[layer] is not None:
            k = np.concatenate([self.caches[layer][0], k], axis=1)
            v = np.concatenate([self.caches[layer][1], v], axis=1)
        self.caches[layer] = (k, v)
        return k, v

    def mask(self, t, s):
        m = np.tril(np.ones((t, s), bool), s - t)
        return m if self.c.window is None else m & ~np.tril(np.ones((t, s), bool), s - t - self.c.window)

    def repeat(self, x):
        return np.repeat(x, self.c.heads // self.c.kv_heads, axis=0)

    def attend(self, q, k, v):
        k, v = self.repeat(k), self.repeat(v)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(np.asarray(self.c.d_head, q.dtype))
        scores = np.where(self.mask(q.shape[1], k.shape[1]), scores, np.asarray(-np.inf, q.dtype))
        return self.join(softmax(scores) @ v)

    def join(self, x):
        return x.transpose(1, 0, 2).reshape(x.shape[1], -1)

    def layer(self, i, x):
        at = f"model.layers.{i}."
        y = self.norm(x, at + "input_layernorm.weight")
        q, k, v = (self.split(self.linear(y, f"{at}self_attn.{p}_proj.weight")) for p in "qkv")
        positions = self.positions(i, len(x))
        q, k = self.rope(q, positions), self.rope(k, positions)
        k, v = self.remember(i, k, v)
        x = x + self.linear(self.attend(q, k, v), at + "self_attn.o_proj.weight")
        y = self.norm(x, at + "post_attention_layernorm.weight")
        hidden = silu(self.linear(y, at + "mlp.gate_proj.weight")) * self.linear(y, at + "mlp.up_proj.weight")
        return x + self.linear(hidden, at + "mlp.down_proj.weight")

    def forward(self, ids):
        x = self.w["model.embed_tokens.weight"][ids]
        for i in range(self.c.layers):
            x = self.layer(i, x)
        self.seen += len(ids)
        return self.linear(self.norm(x, "model.norm.weight"), "lm_head.weight")


# Correct, in other styles


class Preallocated(NumpyDecoder):
    """Arrays for 64 tokens, written in place."""

    def remember(self, layer, k, v):
        if self.caches[layer] is None:
            self.caches[layer] = [np.zeros((k.shape[0], 64, k.shape[2]), k.dtype) for _ in "kv"]
        stop = self.seen + k.shape[1]
        for buffer, new in zip(self.caches[layer], (k, v), strict=True):
            buffer[:, self.seen : stop] = new
        return tuple(buffer[:, :stop] for buffer in self.caches[layer])


class ListOfRows(NumpyDecoder):
    """A Python list of rows, newest first, with a mask in the same order."""

    def remember(self, layer, k, v):
        rows = self.caches[layer] or []
        for t in range(k.shape[1]):
            rows = [(k[:, t], v[:, t]), *rows]
        self.caches[layer] = rows
        return tuple(np.stack([row[i] for row in rows], axis=1) for i in (0, 1))

    def mask(self, t, s):
        return super().mask(t, s)[:, ::-1]


class Einsum(NumpyDecoder):
    """Attention by einsum over groups of query heads, without repeating keys and values; a finite mask value."""

    def attend(self, q, k, v):
        g = self.c.kv_heads
        q = q.reshape(g, -1, *q.shape[1:])
        scores = np.einsum("grtd,gsd->grts", q, k) * np.asarray(self.c.d_head, q.dtype) ** np.asarray(-0.5, q.dtype)
        scores = np.where(self.mask(q.shape[2], k.shape[1]), scores, np.asarray(-30000.0, q.dtype))
        out = np.einsum("grts,gsd->tgrd", softmax(scores), v)
        return out.reshape(len(out), -1)


class OneBased(NumpyDecoder):
    """Positions start at 1: rotary scores depend only on differences."""

    first_position = 1


class Fused(NumpyDecoder):
    """Query, key and value projected by one product."""

    def layer(self, i, x):
        names = [f"model.layers.{i}.self_attn.{p}_proj.weight" for p in "qkv"]
        joined = np.concatenate([self.w[name] for name in names])
        sizes = np.cumsum([len(self.w[name]) for name in names])[:-1]
        at = f"model.layers.{i}."
        y = self.norm(x, at + "input_layernorm.weight")
        q, k, v = (self.split(part) for part in np.split(np.dot(y, joined.T), sizes, axis=1))
        positions = self.positions(i, len(x))
        k, v = self.remember(i, self.rope(k, positions), v)
        x = x + self.linear(self.attend(self.rope(q, positions), k, v), at + "self_attn.o_proj.weight")
        y = self.norm(x, at + "post_attention_layernorm.weight")
        hidden = silu(self.linear(y, at + "mlp.gate_proj.weight")) * self.linear(y, at + "mlp.up_proj.weight")
        return x + self.linear(hidden, at + "mlp.down_proj.weight")


class Narrow(NumpyDecoder):
    """Products cast back to the dtype of the weights where NumPy promotes them."""

    def linear(self, x, name):
        return super().linear(x, name).astype(self.w[name].dtype)

    def attend(self, q, k, v):
        return super().attend(q, k, v).astype(q.dtype)


class EvictsOutsideWindow(NumpyDecoder):
    """Keeps the last W - 1 rows if the model has a window of W."""

    def remember(self, layer, k, v):
        k, v = super().remember(layer, k, v)
        if self.c.window is not None:
            kept = self.c.window - 1
            first = max(k.shape[1] - kept, 0)
            self.caches[layer] = (k[:, first:], v[:, first:])
        return k, v


class Recomputes(NumpyDecoder):
    """No cache: correct, and expensive."""

    def __init__(self, weights):
        super().__init__(weights)
        self.ids = []

    def forward(self, ids):
        self.ids = self.ids + list(ids)
        self.caches, self.seen = [None] * self.c.layers, 0
        return super().forward(self.ids)[-len(ids) :]


class Int8(NumpyDecoder):
    """After each step, quantises whole groups before the last `residual` rows to 8 bits. Correct under
    "int8:group=2,residual=1": keys with a scale per channel, values with one per token and group of channels."""

    group, residual = 2, 1

    def __init__(self, weights):
        super().__init__(weights)
        self.packed = 0

    def round(self, x):
        return np.rint(x)

    def through(self, x, axis):
        scale = (np.abs(x.astype(np.float32)).max(axis=axis, keepdims=True) / np.float32(127)).astype(np.float16)
        codes = self.round(x.astype(np.float32) / scale.astype(np.float32)).clip(-127, 127)
        return (codes * scale.astype(np.float32)).astype(x.dtype)

    def pack_keys(self, k):
        return self.through(k, 1)

    def pack_values(self, v):
        return self.through(v.reshape(*v.shape[:2], -1, self.group), -1).reshape(v.shape)

    def forward(self, ids):
        out = super().forward(ids)
        stop = max(0, (self.seen - self.residual) // self.group * self.group)
        for k, v in self.caches:
            self.pack(k, v, stop)
        self.packed = stop
        return out

    def pack(self, k, v, stop):
        for first in range(self.packed, stop, self.group):
            rows = slice(first, first + self.group)
            k[:, rows], v[:, rows] = self.pack_keys(k[:, rows]), self.pack_values(v[:, rows])


RIGHT = [NumpyDecoder, Preallocated, ListOfRows, Einsum, OneBased, Fused, Narrow, EvictsOutsideWindow, Recomputes]


# Wrong


class PositionsFromZero(NumpyDecoder):  # expect: rope_pos_restarts_at_0
    def positions(self, layer, n):
        return np.arange(n)


class PositionsOfLongerCache(NumpyDecoder):  # expect: rope_len_committed_by_layer0
    def positions(self, layer, n):
        cached = self.caches[0]
        return np.arange(n) + (cached[0].shape[1] if cached is not None else 0)


class Tiles(Einsum):  # expect: gqa_tile_instead_of_repeat
    def attend(self, q, k, v):
        g = self.c.kv_heads
        q = q.reshape(-1, g, *q.shape[1:])
        scores = np.einsum("rgtd,gsd->rgts", q, k) / np.sqrt(self.c.d_head)
        out = np.einsum("rgts,gsd->trgd", softmax(np.where(self.mask(q.shape[2], k.shape[1]), scores, -1e4)), v)
        return out.reshape(len(out), -1)


class TopLeft(NumpyDecoder):  # expect: mask_top_left
    def mask(self, t, s):
        m = np.tril(np.ones((t, s), bool))
        return m if self.c.window is None else m & ~np.tril(np.ones((t, s), bool), -self.c.window)


class MaskOnPrefillOnly(NumpyDecoder):  # expect: mask_only_when_square
    def mask(self, t, s):
        return super().mask(t, s) if t == s else np.ones((t, s), bool)


class Forgetful(Preallocated):  # expect: decode_does_not_append
    """A decode step attends to its own row without storing it."""

    def remember(self, layer, k, v):
        if self.seen and k.shape[1] == 1:
            buffers = self.caches[layer]
            rows = self.rows[layer]
            return tuple(np.concatenate([b[:, :rows], x], axis=1) for b, x in zip(buffers, (k, v), strict=True))
        self.rows = getattr(self, "rows", [0] * self.c.layers)
        before = self.seen
        self.seen = self.rows[layer]
        out = super().remember(layer, k, v)
        self.rows[layer], self.seen = self.seen + k.shape[1], before
        return out

    def mask(self, t, s):
        stop = self.seen + t
        key = np.concatenate([np.arange(s - t), np.arange(self.seen, stop)]) if s - t <= self.seen else np.arange(s)
        query = np.arange(self.seen, stop)[:, None]
        m = key <= query
        return m if self.c.window is None else m & (key > query - self.c.window)


class WindowPlusOne(NumpyDecoder):  # expect: window_keeps_one_extra
    def mask(self, t, s):
        window = s if self.c.window is None else self.c.window
        return np.tril(np.ones((t, s), bool), s - t) & np.triu(np.ones((t, s), bool), s - t - window)


class NoWindowInDecode(NumpyDecoder):  # expect: window_ignored_in_decode
    def mask(self, t, s):
        return np.ones((1, s), bool) if t == 1 else super().mask(t, s)


class LayersTogether(NumpyDecoder):  # expect: layers_share_one_cache
    """One pair of arrays, written by position, for all layers."""

    def __init__(self, weights):
        super().__init__(weights)
        shape = (self.c.kv_heads, 64, self.c.d_head)
        self.k, self.v = np.zeros(shape), np.zeros(shape)

    def remember(self, layer, k, v):
        stop = self.seen + k.shape[1]
        self.k[:, self.seen : stop], self.v[:, self.seen : stop] = k, v
        return self.k[:, :stop], self.v[:, :stop]


class ScoresOfWidth(NumpyDecoder):  # expect: scale_by_d_model
    def attend(self, q, k, v):
        return super().attend(q * np.sqrt(self.c.d_head / self.c.d_model), k, v)


class MergesWithoutTranspose(NumpyDecoder):  # expect: heads_merged_without_transpose
    def join(self, x):
        return x.reshape(x.shape[1], -1)


class RotatesAdjacentPairs(NumpyDecoder):  # expect: rope_interleaved_pairs
    def rope(self, x, positions):
        half = self.c.d_head // 2
        order = np.arange(self.c.d_head).reshape(half, 2).T.reshape(-1)
        back = np.argsort(order)
        return super().rope(x[..., order], positions)[..., back]


class ZeroMask(NumpyDecoder):  # expect: mask_zero_instead_of_inf
    def attend(self, q, k, v):
        k, v = self.repeat(k), self.repeat(v)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(self.c.d_head)
        return self.join(softmax(scores * self.mask(q.shape[1], k.shape[1])) @ v)


GLOBAL = {}


class GlobalCache(NumpyDecoder):  # expect: cache_not_reset_between_prompts
    """The cache and its length are module globals."""

    def __init__(self, weights):
        super().__init__(weights)
        new = {"caches": [None] * self.c.layers, "seen": 0, "weights": weights}  # kept, so that no other has its id
        self.shared = GLOBAL.setdefault(id(weights), new)
        self.caches, self.seen = self.shared["caches"], self.shared["seen"]

    def forward(self, ids):
        out = super().forward(ids)
        self.shared["seen"] = self.seen
        return out


class TwoMistakes(PositionsFromZero):  # expect: unknown
    def repeat(self, x):
        return np.tile(x, (self.c.heads // self.c.kv_heads, 1, 1))


class WrongTheta(NumpyDecoder):  # expect: unknown
    def rope(self, x, positions):
        return super().rope(x, np.asarray(positions) * 1.1)


class SeesTwoFutureTokens(NumpyDecoder):  # expect: unknown
    """In texts of up to three tokens the same as no mask."""

    def mask(self, t, s):
        m = np.tril(np.ones((t, s), bool), s - t + 2)
        return m if self.c.window is None else m & ~np.tril(np.ones((t, s), bool), s - t - self.c.window)


class WindowTwiceAsLong(NumpyDecoder):  # expect: unknown
    """In texts of up to eight tokens the same as no window, for a window of 4."""

    def mask(self, t, s):
        window = s if self.c.window is None else 2 * self.c.window
        return np.tril(np.ones((t, s), bool), s - t) & ~np.tril(np.ones((t, s), bool), s - t - window)


class NoWindowInPrefill(NumpyDecoder):  # expect: window_ignored
    def mask(self, t, s):
        return np.tril(np.ones((t, s), bool)) if t == s else super().mask(t, s)


class NormPlusInput(NumpyDecoder):  # expect: unknown
    """Adds a hundredth of the input to the output of every norm."""

    def norm(self, x, name):
        return super().norm(x, name) + x * 0.01
