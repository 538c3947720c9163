"""What a model's KV cache takes, in bytes, at any context: exact integers, without running anything.

Rows of keys and values are counted layer by layer. A row is that of one token in one layer: heads · (key + value)
numbers. How many rows, by three definitions:

    logical    what a lossless cache must hold: all rows, and of a layer with a window W the last W - 1
    paged      the same in whole blocks (arXiv:2309.06180); a window that begins inside of a block touches one more
    reserved   whole blocks of what an engine sets aside: W rows of a layer with a window

Some engines give every layer of a hybrid model the full context: `everywhere`. A quantised cache is KIVI's
(arXiv:2402.02750): q = 64 · floor((n - 128) / 64) rows in fewer bits, keys with a scale for each channel over 64 rows,
values with one for each row over 64 channels (or the head, if it is smaller), all scales float16; the last n - q rows
stay as they came. So do layers with a window of their own, and cross-attention.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.caches.base import Shape, layer_shape
from kvsim.checks import LARGEST, check_whole
from kvsim.config import Config
from kvsim.costs.bytes.parameters import BYTES, Parameters, measure_parameters
from kvsim.costs.public.models import find_config
from kvsim.errors import UsageError, shortened

GROUP, RESIDUAL, SCALE_BYTES = 64, 128, 2
BITS = {"int8": 8, "int4": 4, "fp8": 8}
CACHE_DTYPES = (*BYTES, "int8", "int8:zero", "int4", "int4:zero", "fp8")


@dataclass(frozen=True)
class Rows:
    """Layers whose rows are alike."""

    layers: int
    shape: Shape
    window: int | None = None  # of the layers' own
    cross: bool = False  # rows of the source

    @property
    def numbers(self) -> int:
        """In one row of all these layers."""
        return self.layers * self.shape.n_heads * (self.shape.d_key + self.shape.d_value)

    def held(self, context: int, source: int) -> int:
        """Rows of one layer that a lossless cache must hold after `context` tokens."""
        if self.cross:
            return source
        return context if self.window is None else min(context, self.window - 1)

    def reserved(self, context: int, source: int) -> int:
        """Rows of one layer that an engine sets aside."""
        return self.held(context, source) if self.window is None else min(context, self.window)


class Quantised(NamedTuple):
    """Bytes of a quantised cache by what they are; those of all sequences of the batch."""

    rows: int  # of one sequence, in fewer bits
    payload: int
    scales: int
    zero_points: int
    residual: int  # the newest rows, as they came
    others: int  # layers with a window and cross-attention: as they came


@dataclass(frozen=True)
class Held:
    """Bytes of the cache of all sequences, each of `context` tokens."""

    context: int
    logical: int  # scales and zero points included
    paged: int | None  # None: a quantised cache has no rows of one size
    reserved: int | None
    everywhere: int | None  # None too: no layer has a window
    cross: int  # of `logical`: rows of the source
    quantised: Quantised | None


class Format(NamedTuple):
    """How a cache keeps its numbers."""

    name: str  # a dtype, or int8, int4, fp8
    zero: bool  # with zero points
    item: int  # bytes of a number that is not quantised

    @property
    def bits(self) -> int | None:
        """Of a quantised number; None: none is."""
        return BITS.get(self.name)


def count_rows(config: Config) -> tuple[Rows, ...]:
    """The cache's layers, those alike together: full ones, windows from the widest, the source's."""
    shape = layer_shape(config)
    windows = Counter(kind.window for kind in config.layers)
    widths = sorted(windows, key=lambda window: (window is not None, -(window or 0)))
    found = [Rows(windows[window], shape, window) for window in widths]
    if config.encoder is not None:
        found.append(Rows(config.n_layers, Shape(config.n_kv_heads, config.d_head, config.d_head), cross=True))
    return tuple(found)


def in_blocks(rows: int, block: int) -> int:
    """So many rows rounded up to whole blocks."""
    return -(-rows // block) * block


def quantised_rows(context: int) -> int:
    """The rows in fewer bits, of so many.

    >>> quantised_rows(4096), quantised_rows(191)
    (3968, 0)
    """
    return max(0, (context - RESIDUAL) // GROUP * GROUP)


def scales_of(shape: Shape, rows: int) -> int:
    """Scales of so many quantised rows of one layer: a multiple of GROUP."""
    values = shape.d_value // min(GROUP, shape.d_value)
    return shape.n_heads * (rows // GROUP * shape.d_key + rows * values)


def measure_quantised(all_rows: Sequence[Rows], kept: Format, context: int, source: int, batch: int) -> Quantised:
    """A quantised cache after `context` tokens, and what stays as it came."""
    q = quantised_rows(context)
    payload = scales = residual = others = 0
    for rows in all_rows:
        if rows.window is not None or rows.cross:
            others += batch * rows.numbers * rows.held(context, source) * kept.item
            continue
        payload += batch * rows.numbers * q * (kept.bits or 0) // 8
        scales += batch * rows.layers * scales_of(rows.shape, q) * SCALE_BYTES
        residual += batch * rows.numbers * (context - q) * kept.item
    return Quantised(q, payload, scales, scales if kept.zero else 0, residual, others)


def measure_held(
    all_rows: Sequence[Rows], kept: Format, context: int, source: int = 0, batch: int = 1, block: int = 16
) -> Held:
    """The cache after `context` tokens of each sequence."""

    def total(count: Any) -> int:
        return sum(batch * rows.numbers * count(rows) * kept.item for rows in all_rows)

    cross = total(lambda rows: source if rows.cross else 0)
    if kept.bits is not None:
        found = measure_quantised(all_rows, kept, context, source, batch)
        return Held(context, sum(found[1:]), None, None, None, cross, found)
    windowed = any(rows.window is not None for rows in all_rows)
    return Held(
        context,
        logical=total(lambda rows: rows.held(context, source)),
        paged=total(lambda rows: in_blocks(rows.held(context, source), block)),
        reserved=total(lambda rows: in_blocks(rows.reserved(context, source), block)),
        everywhere=total(lambda rows: in_blocks(source if rows.cross else context, block)) if windowed else None,
        cross=cross,
        quantised=None,
    )


def read_format(cache_dtype: str, dtype: str, shape: Shape) -> Format:
    """The format `cache_dtype`; numbers that are not quantised are in `dtype`. UsageError: unknown, or rows that it
    cannot hold."""
    if cache_dtype not in CACHE_DTYPES:
        raise UsageError(
            "unknown cache dtype {dtype}: use one of {known}",
            dtype=shortened(cache_dtype),
            known=", ".join(CACHE_DTYPES),
        )
    if cache_dtype in BYTES:
        return Format(cache_dtype, False, BYTES[cache_dtype])
    name, _, zero = cache_dtype.partition(":")
    if shape.d_value % min(GROUP, shape.d_value):
        raise UsageError(
            "the cache {name} shares scales of values between {group} channels, but a value has {channels}: use"
            " another cache dtype",
            name=cache_dtype,
            group=GROUP,
            channels=shape.d_value,
        )
    if name == "int4" and (shape.d_key % 2 or shape.d_value % 2):
        raise UsageError(
            "the cache {name} packs two numbers to a byte, but a key has {key} and a value {value}: use int8",
            name=cache_dtype,
            key=shape.d_key,
            value=shape.d_value,
        )
    return Format(name, bool(zero), BYTES[dtype])


@dataclass(frozen=True)
class Memory:
    """Weights and KV cache of a model."""

    model: str
    config: Config
    parameters: Parameters
    dtype: str  # of the weights
    cache_dtype: str
    kept: Format
    batch: int
    block: int
    source: int  # encoder positions; 0 without an encoder
    rows: tuple[Rows, ...]
    contexts: tuple[Held, ...]

    @property
    def weight_bytes(self) -> int:
        """Of every array."""
        return self.parameters.total * BYTES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """What the first token of a sequence takes, not quantised (a layer with a window of 1 keeps none)."""
        return sum(rows.numbers * rows.held(1, 0) for rows in self.rows) * self.kept.item

    @property
    def far_bytes(self) -> int:
        """What one token more takes where every window is full, not quantised."""
        return sum(rows.numbers for rows in self.rows if rows.window is None and not rows.cross) * self.kept.item


def measure_memory(
    model: str | Path | Config,
    contexts: Sequence[int],
    *,
    batch: int = 1,
    dtype: str = "bfloat16",
    cache_dtype: str | None = None,
    block: int = 16,
    source: int | None = None,
) -> Memory:
    """Weights in `dtype` and, for `batch` sequences, the KV cache at each of `contexts`.

    `cache_dtype`: the weights' unless said, or int8, int4, fp8 (int8:zero and int4:zero with zero points). `block`:
    rows of a page. `source`: encoder positions of an encoder-decoder.

    UsageError: no such model or dtype, sizes that make no sense. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    if dtype not in BYTES:
        raise UsageError("unknown dtype {dtype}: use one of {known}", dtype=shortened(dtype), known=", ".join(BYTES))
    if config.encoder is None and source is not None:
        raise UsageError("the model {model} has no encoder", model=name)
    if config.encoder is not None and source is None:
        raise UsageError("the model {model} reads a source: give source, its encoder positions", model=name)
    positions = 0 if source is None else check_whole("source", source, 1, LARGEST)
    batch, block = check_whole("batch", batch, 1, LARGEST), check_whole("block", block, 1, LARGEST)
    asked = [check_whole("context", context, 1, LARGEST) for context in contexts]
    kept = read_format(dtype if cache_dtype is None else cache_dtype, dtype, layer_shape(config))
    rows = count_rows(config)
    held = tuple(measure_held(rows, kept, context, positions, batch, block) for context in asked)
    told = cache_dtype or dtype
    return Memory(name, config, measure_parameters(config), dtype, told, kept, batch, block, positions, rows, held)
