"""A torch decoder with a batch axis and preallocated buffers, and subclasses with one mistake each.

It shares no code with the package or with the NumPy decoders.
"""

import torch
from torch.nn import functional


class TorchDecoder:
    """Queries, keys and values [1, H, T, K]; rows are written in place."""

    def __init__(self, weights):
        self.w, self.c = weights, weights.config
        self.dtype = weights["lm_head.weight"].dtype
        shape = (self.c.layers, 1, self.c.kv_heads, self.c.context, self.c.d_head)
        self.keys, self.values = torch.zeros(shape, dtype=self.dtype), torch.zeros(shape, dtype=self.dtype)
        self.seen = 0

    def first_position(self):
        return self.seen

    def heads(self, x, name):
        y = functional.linear(x, self.w[name])
        return y.view(1, x.shape[1], -1, self.c.d_head).transpose(1, 2)

    def rotate(self, x):
        """x rotated; angles in float64, cosines and sines in the dtype of the model."""
        half, start = self.c.d_head // 2, self.first_position()
        positions = torch.arange(start, start + x.shape[2], dtype=torch.float64)
        angle = torch.outer(positions, self.c.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half))
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        a, b = x.split(half, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def norm(self, x, name):
        return functional.rms_norm(x, (x.shape[-1],), self.w[name], self.c.norm_eps)

    def write(self, layer, k, v):
        stop = self.seen + k.shape[2]
        self.keys[layer, :, :, self.seen : stop], self.values[layer, :, :, self.seen : stop] = k, v
        return self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop]

    def mask(self, t, s):
        allowed = torch.ones(t, s, dtype=torch.bool).tril(s - t)
        return allowed if self.c.window is None else allowed.triu(s - t - self.c.window + 1)

    def attend(self, q, k, v):
        mask = self.mask(q.shape[2], k.shape[2])
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    def layer(self, i, x):
        at = f"model.layers.{i}."
        y = self.norm(x, at + "input_layernorm.weight")
        q, k, v = (self.heads(y, f"{at}self_attn.{part}_proj.weight") for part in "qkv")
        k, v = self.write(i, self.rotate(k), v)
        context = self.attend(self.rotate(q), k, v).transpose(1, 2).flatten(2)
        x = x + functional.linear(context, self.w[at + "self_attn.o_proj.weight"])
        y = self.norm(x, at + "post_attention_layernorm.weight")
        gate, up = (functional.linear(y, self.w[f"{at}mlp.{part}_proj.weight"]) for part in ("gate", "up"))
        return x + functional.linear(functional.silu(gate) * up, self.w[at + "mlp.down_proj.weight"])

    @torch.no_grad()
    def forward(self, ids):
        x = functional.embedding(torch.tensor([ids]), self.w["model.embed_tokens.weight"])
        self.hidden = []
        for i in range(self.c.layers):
            x = self.layer(i, x)
            self.hidden.append(x[0])
        self.seen += len(ids)
        return functional.linear(self.norm(x, "model.norm.weight"), self.w["lm_head.weight"])[0]


class TopLeftMask(TorchDecoder):  # expect: mask_top_left
    def attend(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


class RestartsPositions(TorchDecoder):  # expect: rope_pos_restarts_at_0
    def first_position(self):
        return 0


class DecodeOneFurther(TorchDecoder):  # expect: rope_off_by_one_decode
    def first_position(self):
        return self.seen + 1 if self.seen else 0


class WritesAtTheStart(TorchDecoder):  # expect: cache_overwritten
    """As if each step's rows were written from row 0 on, and only these were read."""

    def write(self, layer, k, v):
        return k, v

    def mask(self, t, s):
        return torch.ones(t, s, dtype=torch.bool).tril()


class Tiled(TorchDecoder):  # expect: gqa_tile_instead_of_repeat
    def attend(self, q, k, v):
        groups = self.c.heads // self.c.kv_heads
        return super().attend(q, k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1))


class MasksOnlyPrefill(TorchDecoder):  # expect: mask_only_when_square
    def mask(self, t, s):
        return super().mask(t, s) if t == s else torch.ones(t, s, dtype=torch.bool)


class KeysInPlaceOfValues(TorchDecoder):  # expect: used_k_as_v
    def attend(self, q, k, v):
        return super().attend(q, k, k)


class SmallerScale(TorchDecoder):  # expect: scale_by_d_model
    def attend(self, q, k, v):
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=self.mask(q.shape[2], k.shape[2]), enable_gqa=True, scale=self.c.d_model**-0.5
        )
