"""The size of a model's KV cache in bytes, at any context: exact integers, without running anything.

Rows of keys and values are counted layer by layer. A row is that of one token in one layer: heads · (key + value)
numbers. There are three definitions of how many rows a layer holds:

    logical    what a lossless cache must hold: all rows, and in a layer with a window W the last W - 1
    paged      the same in whole blocks (arXiv:2309.06180); a window that begins inside a block touches one more
    reserved   whole blocks of what an engine reserves: W rows in a layer with a window

Some engines reserve the full context in every layer of a hybrid model: `everywhere`. A quantised cache is KIVI's
(arXiv:2402.02750) with the default options of `kvsim.caches.quantised`: q = 64 · floor((n - 128) / 64) rows are
quantised, keys with one scale per channel and 64 rows, values with one scale per row and 64 channels (or the head size,
if smaller), all scales float16; the last n - q rows are not quantised. Nor are layers with a window and
cross-attention.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.caches.base import Shape, layer_shape
from kvsim.caches.quantised.options import Options
from kvsim.checks import LARGEST, check_list, check_whole, is_name
from kvsim.config import Config
from kvsim.costs.bytes.parameters import BYTES, Parameters, measure_parameters
from kvsim.costs.public.models import check_source, find_config
from kvsim.errors import UsageError, shortened
from kvsim.schemas.display import mimebundle

SCALE_BYTES = 2  # of a scale or zero point: float16
BITS = {"int8": 8, "int4": 4, "fp8": 8}
CACHE_DTYPES = (*BYTES, "int8", "int8:zero", "int4", "int4:zero", "fp8")


@dataclass(frozen=True)
class Rows:
    """Layers whose rows have the same shape and whose windows are the same."""

    layers: int
    shape: Shape
    window: int | None = None  # of these layers
    cross: bool = False  # cross-attention: rows of the source

    @property
    def numbers(self) -> int:
        """Numbers in one row of all these layers."""
        return self.layers * self.shape.n_heads * (self.shape.d_key + self.shape.d_value)

    def held(self, context: int, source: int) -> int:
        """Rows that a lossless cache must hold in one layer after `context` tokens."""
        if self.cross:
            return source
        return context if self.window is None else min(context, self.window - 1)

    def reserved(self, context: int, source: int) -> int:
        """Rows that an engine reserves in one layer."""
        return self.held(context, source) if self.window is None else min(context, self.window)


class Quantised(NamedTuple):
    """The bytes of a quantised cache by use, of all sequences of the batch."""

    rows: int  # quantised, of one sequence
    payload: int
    scales: int
    zero_points: int
    residual: int  # the newest rows, not quantised
    others: int  # layers with a window, and cross-attention: not quantised


@dataclass(frozen=True)
class Held:
    """Bytes of the cache of all sequences, each of `context` tokens."""

    context: int
    logical: int  # scales and zero points included
    paged: int | None  # None: a quantised cache has no rows of one size
    reserved: int | None
    everywhere: int | None  # None also if no layer has a window
    cross: int  # of `logical`: rows of the source
    quantised: Quantised | None


class Format(NamedTuple):
    """How a cache stores its numbers."""

    name: str  # a dtype, or int8, int4, fp8
    zero: bool  # with zero points
    item: int  # bytes of a number that is not quantised

    @property
    def bits(self) -> int | None:
        """Bits of a quantised number; None: the cache is not quantised."""
        return BITS.get(self.name)

    @property
    def options(self) -> Options:
        """The options of the quantised cache: groups and residual."""
        return Options(zero=self.zero)


def count_rows(config: Config) -> tuple[Rows, ...]:
    """The layers of the cache, those with the same rows together: full attention, windows from the widest, then
    cross-attention."""
    shape = layer_shape(config)
    windows = Counter(kind.window for kind in config.layers)
    widths = sorted(windows, key=lambda window: (window is not None, -(window or 0)))
    found = [Rows(windows[window], shape, window) for window in widths]
    if config.encoder is not None:
        found.append(Rows(config.n_layers, Shape(config.n_kv_heads, config.d_head, config.d_head), cross=True))
    return tuple(found)


def in_blocks(rows: int, block: int) -> int:
    """`rows` rounded up to whole blocks."""
    return -(-rows // block) * block


def count_scales(options: Options, shape: Shape, rows: int) -> int:
    """Scales of `rows` quantised rows of one layer, keys and values together."""
    sizes = zip((shape.d_key, shape.d_value), options.groups(shape), strict=True)
    return shape.n_heads * sum(rows * size // (group.rows * group.channels) for size, group in sizes)


def measure_quantised(all_rows: Sequence[Rows], kept: Format, context: int, source: int, batch: int) -> Quantised:
    """The bytes of a quantised cache after `context` tokens."""
    q = kept.options.quantised(context)
    payload = scales = residual = others = 0
    for rows in all_rows:
        if rows.window is not None or rows.cross:
            others += batch * rows.numbers * rows.held(context, source) * kept.item
            continue
        payload += batch * rows.numbers * q * (kept.bits or 0) // 8
        scales += batch * rows.layers * count_scales(kept.options, rows.shape, q) * SCALE_BYTES
        residual += batch * rows.numbers * (context - q) * kept.item
    return Quantised(q, payload, scales, scales if kept.zero else 0, residual, others)


def measure_held(
    all_rows: Sequence[Rows], kept: Format, context: int, source: int = 0, batch: int = 1, block: int = 16
) -> Held:
    """The bytes of the cache after `context` tokens of each of `batch` sequences, in blocks of `block` rows."""

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
    """The format `cache_dtype`; numbers that are not quantised are in `dtype`.

    UsageError: an unknown format, or rows of a shape that it cannot store."""
    if not is_name(cache_dtype, CACHE_DTYPES):
        raise UsageError(
            "unknown cache dtype {dtype}: use one of {known}",
            dtype=shortened(cache_dtype),
            known=", ".join(CACHE_DTYPES),
        )
    if cache_dtype in BYTES:
        return Format(cache_dtype, False, BYTES[cache_dtype])
    name, _, zero = cache_dtype.partition(":")
    group = Options().channels(shape.d_value)
    if shape.d_value % group:
        raise UsageError(
            "the cache {name} shares scales of values between {group} channels, but a value has {channels}: use"
            " another cache dtype",
            name=cache_dtype,
            group=group,
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
    """The sizes of a model's weights and KV cache."""

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

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        sizes = f"weight_bytes={self.weight_bytes}, contexts={len(self.contexts)}"
        return f"Memory({self.model!r:.40}, dtype={self.dtype!r}, cache_dtype={self.cache_dtype!r}, {sizes})"

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.parameters.total * BYTES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of the first token of a sequence, not quantised (a layer with a window of 1 keeps none)."""
        return sum(rows.numbers * rows.held(1, 0) for rows in self.rows) * self.kept.item

    @property
    def far_bytes(self) -> int:
        """Bytes of each further token once every window is full, not quantised."""
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
    """The sizes of the weights in `dtype` and of the KV cache of `batch` sequences at each of `contexts` (tokens).

    `cache_dtype`: a dtype (default: `dtype`), int8, int4 or fp8, or int8:zero and int4:zero with zero points. `block`:
    rows of a block. `source`: encoder positions of an encoder-decoder.

    UsageError: no such model or dtype, or a size that is not possible. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    if not is_name(dtype, BYTES):
        raise UsageError("unknown dtype {dtype}: use one of {known}", dtype=shortened(dtype), known=", ".join(BYTES))
    positions = check_source(name, config, source)
    batch, block = check_whole("batch", batch, 1, LARGEST), check_whole("block", block, 1, LARGEST)
    lengths = [check_whole("context", context, 1, LARGEST) for context in check_list("contexts", contexts)]
    cache_dtype = dtype if cache_dtype is None else cache_dtype
    kept = read_format(cache_dtype, dtype, layer_shape(config))
    rows = count_rows(config)
    held = tuple(measure_held(rows, kept, length, positions, batch, block) for length in lengths)
    parameters = measure_parameters(config)
    return Memory(name, config, parameters, dtype, cache_dtype, kept, batch, block, positions, rows, held)
