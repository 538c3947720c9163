"""Decoders with rows in 8 bits, right under "int8:group=2,residual=1", and with mistakes, in two styles: rounded in
place after each step (`numpy_decoders.Int8`), and packed as codes and scales that are read back in every step. A
comment on a wrong one states the expected diagnosis: `# expect: id`."""

import numpy as np

from tests.testing.strangers.numpy_decoders import Int8
from tests.testing.strangers.reports import Engine


class Packed(Engine):
    """Correct. Whole groups are codes in int8 and scales in float16; the newest rows are kept as they are."""

    group, residual = 2, 1

    def __init__(self, weights):
        super().__init__(weights)
        self.packs = [[] for _ in self.rows]

    def encode(self, x, axis):
        """Codes, and a scale for each line of x along the axis."""
        x = x.astype(np.float32)
        scale = np.float16(abs(x).max(axis, keepdims=True) / np.float32(127))
        wide = np.where(scale == 0, np.float32(1), scale.astype(np.float32))
        return np.clip(self.whole(x / wide), -127, 127).astype(np.int8), scale

    def whole(self, x):
        return np.round(x)

    def decode(self, pack):
        codes, scale = pack
        return codes.astype(np.float32) * scale.astype(np.float32)

    def pack_keys(self, k):
        return self.encode(k, 0)

    def pack_values(self, v):
        return self.encode(v.reshape(*v.shape[:2], -1, 2), 3)

    def store(self, layer, k, v):
        tail = tuple(np.concatenate(pair) for pair in zip(self.rows[layer][:2], (k, v), strict=True))
        self.rows[layer] = (*tail, self.rows[layer][2])
        keys = [self.decode(pack) for pack, _ in self.packs[layer]]
        values = [self.decode(pack).reshape(-1, *v.shape[1:]) for _, pack in self.packs[layer]]
        read = [np.concatenate([*old, new]) for old, new in ((keys, tail[0]), (values, tail[1]))]
        return (*read, np.arange(len(read[0])))

    def forward(self, ids):
        out = super().forward(ids)
        for layer in range(self.c.layers):
            self.pack(layer)
        return out

    def pack(self, layer):
        keys, values, at = self.rows[layer]
        while len(keys) >= self.group + self.residual:
            n = self.group
            self.packs[layer].append((self.pack_keys(keys[:n]), self.pack_values(values[:n])))
            keys, values = keys[n:], values[n:]
        self.rows[layer] = keys, values, at


RIGHT = [Int8, Packed]


class Kept(Packed):  # expect: quantised_not_at_all
    """The groups are moved, and stay as they are."""

    def encode(self, x, axis):
        return x, None

    def decode(self, pack):
        return pack[0]


class HalfPrecision(Int8):  # expect: quantised_not_at_all
    def through(self, x, axis):
        return x.astype(np.float16).astype(x.dtype)


class ScalePerNumber(Packed):  # expect: quantised_wrong_group
    """A group axis was added, and every number is its own group."""

    def encode(self, x, axis):
        codes, scale = super().encode(x[..., None], -1)
        return codes[..., 0], scale[..., 0]


class ScalePerRow(Packed):  # expect: quantised_wrong_group
    def pack_values(self, v):
        return self.encode(v, 2)


class RowScales(Int8):  # expect: quantised_wrong_group
    """Values: one scale for all channels of a row."""

    def pack_values(self, v):
        return self.through(v, -1)


class CastToInteger(Packed):  # expect: quantised_truncates
    def whole(self, x):
        return x.astype(np.int32)


class Floored(Int8):  # expect: quantised_truncates
    def round(self, x):
        return np.floor(x)


class Repacked(Packed):  # expect: quantised_twice
    """What was packed is read back and packed as one group with the next one."""

    def pack(self, layer):
        keys, values, at = self.rows[layer]
        whole = (len(keys) - self.residual) // self.group * self.group
        if whole <= 0:
            return
        old = [(self.decode(k), self.decode(v).reshape(-1, *values.shape[1:])) for k, v in self.packs[layer]]
        every = [np.concatenate([*part, new[:whole]]) for part, new in
                 zip(zip(*old, strict=True) if old else ((), ()), (keys, values), strict=True)]  # fmt: skip
        self.packs[layer] = [(self.pack_keys(every[0]), self.pack_values(every[1]))]
        self.rows[layer] = keys[whole:], values[whole:], at


class EveryStep(Int8):  # expect: quantised_twice
    """All whole groups so far are one group, each step."""

    def forward(self, ids):
        self.packed = 0
        return super().forward(ids)

    def pack(self, k, v, stop):
        if stop:
            k[:, :stop], v[:, :stop] = self.pack_keys(k[:, :stop]), self.pack_values(v[:, :stop])


class KeysLikeValues(Packed):  # expect: quantised_scale_axis
    def pack_keys(self, k):
        codes, scale = self.pack_values(k)
        return codes.reshape(k.shape), np.repeat(scale[..., 0], 2, axis=-1)


class ValuesLikeKeys(Int8):  # expect: quantised_scale_axis
    def pack_values(self, v):
        return self.through(v, 1)
