"""`int8`, `int4`, `fp8`: older rows quantised, the newest in the model's dtype. Lossy (KIVI, arXiv:2402.02750).

Keys share a scale over 64 tokens in each channel of each head, values over 64 channels in each token: keys have
channels that are large in every token, values do not.

Of n rows the first 64 · floor((n - 128) / 64) are quantised, each once, when its step is committed. A step sees older
rows quantised and its own rows exact, so the rounding that a query meets depends on the split into steps. The policy
promises the error bound of `kvsim.caches.quantised.codes`, not split invariance.
"""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import ClassVar

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, array_bytes, check_numbers, layer_shape
from kvsim.caches.quantised.codes import Code, Packed, append, are_codes, dequantise, quantise
from kvsim.caches.quantised.options import Options, fitting_groups, read_options
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span, View


def count_elements(arrays: Iterable[Array]) -> int:
    """Number of elements of `arrays`."""
    count: int = sum(math.prod(array.shape) for array in arrays)
    return count


class QuantisedLayer(LayerCache):
    """Quantised rows in arrays of their exact size, never written again, then the newest rows in arrays with spare
    capacity. Rows are dequantised at every step; no dequantised copy is kept."""

    paper = "arXiv:2402.02750"
    lossless = False
    name: ClassVar[str]
    takes_zero: ClassVar[bool] = True

    def __init__(self, ops: Ops, shape: Shape, options: Options) -> None:
        super().__init__(ops, shape, options)
        self.code = Code(self.name, options.zero)
        self.rows = self.quantised = 0
        self._keys, self._values = self._allocate(0)
        groups = options.groups(shape)
        empty = zip(groups, self._allocate(0), strict=True)
        self._packed = [quantise(ops, self.code, group, rows) for group, rows in empty]

    # Options of the policy, and the models that it supports

    @classmethod
    def read_options(cls, name: str, text: str) -> Options:
        return read_options(name, text, ("zero", "head") if cls.takes_zero else ("head",))

    @classmethod
    def print_options(cls, options: Options) -> str:
        return str(options)

    @classmethod
    def is_lossless(cls, config: Config, options: Options) -> bool:
        return all(kind.window is not None for kind in config.layers)  # such layers are WindowLayers

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Options) -> Fraction:
        """Bytes of a quantised row: one byte for one or two elements, and its share of scales and zero points."""
        code = Code(cls.name, options.zero)
        sizes = zip((shape.d_key, shape.d_value), options.groups(shape), strict=True)
        scales = sum((Fraction(size, groups.rows * groups.channels) for size, groups in sizes), Fraction(0))
        payload = Fraction(shape.d_key + shape.d_value, code.per_byte)
        return shape.n_heads * (payload + scales * (4 if options.zero else 2))

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: Options) -> None:
        if not cls.is_lossless(config, options):
            cls._check(spec, layer_shape(config), ops, options)

    @classmethod
    def _check(cls, spec: str, shape: Shape, ops: Ops, options: Options) -> None:
        """`check` for models in which this policy holds at least one layer."""
        if not hasattr(ops.xp, "float16"):
            raise UsageError(
                "the cache {spec} stores its scales in float16, which the backend {backend} does not support",
                spec=spec,
                backend=ops.backend.name,
            )
        group = options.channels(shape.d_value)
        if shape.d_value % group:
            raise UsageError(
                "the cache {spec} shares scales of values between {group} channels, but a value has {channels}:"
                " use a group of {fitting}, or head",
                spec=spec,
                group=group,
                channels=shape.d_value,
                fitting=", ".join(map(str, fitting_groups(shape.d_value))),
            )

    # Called by attention and by `Cache`

    def _make_room(self, needed: int) -> None:
        """Grows the arrays of rows that are not quantised to `needed` rows: by doubling, up to `residual` + `group`,
        which is enough for steps of one token."""
        if needed <= self._keys.shape[1]:
            return
        old_keys, old_values = self._newest()
        most = self.options.residual + self.options.group
        keys, values = self._allocate(max(needed, min(1 << (needed - 1).bit_length(), most)))
        keys[:, : old_keys.shape[1], :] = old_keys
        values[:, : old_values.shape[1], :] = old_values
        self._keys, self._values = keys, values

    def _newest(self) -> tuple[Array, Array]:
        """Keys and values of the rows that are not quantised."""
        held = slice(0, self.rows - self.quantised)
        return self._keys[:, held, :], self._values[:, held, :]

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        self.rows = pos.start
        place = slice(pos.start - self.quantised, pos.stop - self.quantised)
        self._make_room(place.stop)
        keys, values = encode(keys, values, pos)
        self._keys[:, place, :] = keys
        self._values[:, place, :] = values
        self.rows = pos.stop
        return (View(self.keys, self.values, Span(0, pos.stop), pos),)

    def commit(self, pos: Span) -> None:
        ops, count = self.ops, self.options.quantised(pos.stop) - self.quantised
        if count <= 0:
            return
        old, left = slice(0, count), slice(count, self.rows - self.quantised)
        packed, newest = [], self._allocate(self.options.residual + self.options.group)
        parts = zip(self._packed, self.options.groups(self.shape), (self._keys, self._values), newest, strict=True)
        for before, groups, rows, room in parts:
            packed.append(append(ops, before, quantise(ops, self.code, groups, rows[:, old, :])))
            room[:, : left.stop - count, :] = rows[:, left, :]
        self._packed, (self._keys, self._values), self.quantised = packed, newest, self.quantised + count

    # Contents and bytes

    def _read(self, which: int) -> Array:
        """Keys (0) or values (1): the quantised rows, dequantised, then the newest, [G, S, K]."""
        newest = self._newest()[which]
        if not self.quantised:
            return newest
        groups = self.options.groups(self.shape)[which]
        return self.ops.xp.concat([dequantise(self.ops, self.code, groups, self._packed[which]), newest], axis=1)

    @property
    def held_positions(self) -> tuple[Span, ...]:
        return (Span(0, self.rows),)

    @property
    def keys(self) -> Array:
        return self._read(0)

    @property
    def values(self) -> Array:
        return self._read(1)

    @property
    def _payload_bytes(self) -> int:
        """Bytes of the payloads, whose elements are one byte in every format."""
        return count_elements(packed.payload for packed in self._packed)

    @property
    def logical_bytes(self) -> int:
        return self._payload_bytes + array_bytes(self.ops, *self._newest())

    @property
    def allocated_bytes(self) -> int:
        return self._payload_bytes + array_bytes(self.ops, self._keys, self._values)

    @property
    def metadata_bytes(self) -> int:
        """Scales and zero points, two bytes each."""
        return 2 * count_elements(part for packed in self._packed for part in packed[1:] if part is not None)

    # Operations

    def check_crop(self, length: int) -> None:
        if self.options.quantised(length) < self.quantised:
            raise UsageError(
                "cannot crop to {length} tokens: a new cache would not have quantised the first {rows}, and their"
                " rounding cannot be undone: keep at least {least}, or clear the cache",
                length=length,
                rows=self.quantised,
                least=self.quantised + self.options.residual,
            )

    def crop(self, length: int) -> None:
        self.rows = length

    def state(self) -> State:
        arrays = dict(zip(("keys", "values"), self._newest(), strict=True))
        for name, packed in zip(("keys", "values"), self._packed, strict=True):
            held = packed._asdict().items()
            arrays |= {f"{name}.{part}": array for part, array in held if array is not None}
        return State({"rows": self.rows, "quantised": self.quantised}, arrays)

    def restore(self, state: State) -> None:
        xp = self.ops.xp
        copied = {name: xp.astype(array, array.dtype, copy=True) for name, array in state.arrays.items() if "." in name}
        self._packed = [
            Packed(copied[f"{name}.payload"], copied[f"{name}.scale"], copied.get(f"{name}.zero"))
            for name in ("keys", "values")
        ]
        self.quantised = self.rows = state.numbers["quantised"]
        self._make_room(state.numbers["rows"] - self.quantised)
        self.rows = state.numbers["rows"]
        newest = self._newest()
        newest[0][...] = state.arrays["keys"]
        newest[1][...] = state.arrays["values"]

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        count = self.options.quantised(seen)
        check_numbers(numbers, {"rows": seen, "quantised": count})
        shapes = self._shapes(seen - count)
        parts = zip(("keys", "values"), self.shape[1:], self.options.groups(self.shape), strict=True)
        for name, size, groups in parts:
            scales = (self.shape.n_heads, count // groups.rows, size // groups.channels)
            shapes[f"{name}.payload"] = (self.shape.n_heads, count, size // self.code.per_byte)
            shapes |= {f"{name}.{part}": scales for part in (("scale", "zero") if self.code.zero else ("scale",))}
        return shapes

    def check_arrays(self, state: State) -> None:
        """Scales are not negative, and codes are those of the format."""
        for name in ("keys", "values"):
            if bool((state.arrays[f"{name}.scale"] < 0).any()):
                raise ValueError(Words("{name} has a negative scale", name=f"{name}.scale"))
            if not are_codes(self.code, state.arrays[f"{name}.payload"]):
                raise ValueError(
                    Words("{name} has numbers that are no codes of {format}", name=f"{name}.payload", format=self.name)
                )


class Int8Layer(QuantisedLayer):
    """Codes from -127 to 127, or 0 to 255 with zero points."""

    name = example = "int8"
    promise = Words("every row; all but the newest 128 or more rounded to 8-bit integers, in groups with a scale each")


class Int4Layer(QuantisedLayer):
    """Codes from -7 to 7, or 0 to 15 with zero points; two to a byte."""

    name = example = "int4"
    promise = Words("every row; all but the newest 128 or more rounded to 4-bit integers, in groups with a scale each")

    @classmethod
    def _check(cls, spec: str, shape: Shape, ops: Ops, options: Options) -> None:
        super()._check(spec, shape, ops, options)
        if shape.d_key % 2 or shape.d_value % 2:
            raise UsageError(
                "the cache {spec} packs two elements of a head into a byte, so keys and values need even sizes, got"
                " {key} and {value}: use int8",
                spec=spec,
                key=shape.d_key,
                value=shape.d_value,
            )
