"""The caches of the independent decoder: one layer's rows in plain lists. A mistake overrides one method.

A row is the key and the value [G, K] of one token. A cache gets the raw queries, keys and values of the new tokens,
stores rows in its own way, and returns the inputs of attention.
"""

import copy
from typing import Any, Protocol

import numpy as np

from kvsim.config import Config
from kvsim.testing.independent.attention import AttentionInputs


class DecoderLike(Protocol):
    """What a cache needs of the decoder that it belongs to."""

    config: Config
    step: tuple[int, int]

    def encode_query(self, layer: int, x: Any, position: int) -> Any: ...

    def encode_key(self, layer: int, x: Any, position: int) -> Any: ...

    def encode_value(self, layer: int, x: Any, position: int) -> Any: ...

    def layer_scale(self, layer: int) -> float: ...


class Rows:
    """The policies `dynamic` and `static`: every row, in order; keys are stored rotated."""

    def __init__(self, decoder: DecoderLike, layer: int, options: Any = None) -> None:
        self.decoder, self.layer, self.options = decoder, layer, options
        self.keys: list[Any] = []  # [G, K] each
        self.values: list[Any] = []
        self.positions: list[int] = []

    def window(self) -> int | None:
        """The size of the layer's sliding window; None: full attention."""
        return self.decoder.config.layers[self.layer].window

    def update(
        self, start: int, q: list[Any], k: list[Any], v: list[Any], positions: list[int]
    ) -> list[AttentionInputs]:
        """Store the rows of the new tokens start, start + 1 ...; the inputs of attention for their queries, in order,
        in one part or several. `positions`: those that the tokens are rotated by."""
        d, layer = self.decoder, self.layer
        queries = [d.encode_query(layer, x, at) for x, at in zip(q, positions, strict=True)]
        keys = [d.encode_key(layer, x, at) for x, at in zip(k, positions, strict=True)]
        values = [d.encode_value(layer, x, at) for x, at in zip(v, positions, strict=True)]
        self.append(start, keys, values)
        return [self.make_inputs(start, queries)]

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        """Store the rows of the tokens start, start + 1 ..."""
        self.keys, self.values = self.keys + keys, self.values + values
        self.positions = self.positions + list(range(start, start + len(keys)))

    def make_inputs(self, start: int, queries: list[Any]) -> AttentionInputs:
        """The queries at start, start + 1 ... and all stored rows."""
        query_pos = np.arange(start, start + len(queries))
        keys, values, key_pos = self.read(start)
        scale = self.decoder.layer_scale(self.layer)
        q_THK, k_SGK, v_SGK = np.array(queries), np.array(keys), np.array(values)
        return AttentionInputs(q_THK, k_SGK, v_SGK, query_pos, key_pos, self.window(), scale)

    def read(self, start: int) -> tuple[list[Any], list[Any], Any]:
        """Keys, values and positions of the stored rows. Rows of the current step have positions from `start` on."""
        return self.keys, self.values, np.array(self.positions)

    def crop(self, length: int) -> None:
        """Discard the rows from position `length` on."""
        kept = sum(position < length for position in self.positions)
        self.keys, self.values, self.positions = self.keys[:kept], self.values[:kept], self.positions[:kept]

    def fork(self, decoder: DecoderLike) -> "Rows":
        """A cache of `decoder` with the same rows. Lists of rows are never changed in place."""
        other = copy.copy(self)
        other.decoder = decoder
        return other

    def commit(self) -> None:
        """Called at the end of a step, after all layers."""


class WindowRows(Rows):
    """`window:W`: a sliding window in a model that need not have one."""

    def window(self) -> int | None:
        own, given = super().window(), int(self.options)
        return given if own is None else min(own, given)


class SinkRows(Rows):
    """`sinks:S+W` (arXiv:2309.17453): each query sees the first S tokens and the last W, at positions 0, 1 ... counted
    among these. Rows are stored without positions and rotated when they are read."""

    def update(
        self, start: int, q: list[Any], k: list[Any], v: list[Any], positions: list[int]
    ) -> list[AttentionInputs]:
        self.append(start, k, v)
        return [self.inputs_at(start + t, query) for t, query in enumerate(q)]

    def visible_positions(self, position: int) -> list[int]:
        """The positions that a query at `position` sees."""
        sinks, last = self.options
        return [p for p in range(position + 1) if p < sinks or p > position - last]

    def rotary_positions(self, seen: list[int]) -> list[int]:
        """The positions that the visible rows are rotated by; the query by the last of them."""
        return list(range(len(seen)))

    def inputs_at(self, position: int, query: Any) -> AttentionInputs:
        """One query [H, K] and the rows that it sees."""
        seen, d = self.visible_positions(position), self.decoder
        rotary = self.rotary_positions(seen)
        keys = [d.encode_key(self.layer, self.keys[p], at) for p, at in zip(seen, rotary, strict=True)]
        values = [self.values[p] for p in seen]
        q_THK, scale = d.encode_query(self.layer, query, rotary[-1])[None], d.layer_scale(self.layer)
        k_SGK, v_SGK = np.array(keys), np.array(values)
        return AttentionInputs(q_THK, k_SGK, v_SGK, np.array([position]), np.array(seen), None, scale)


class PagedRows(Rows):
    """`paged:B` (arXiv:2309.06180): blocks of B rows in one pool, found through a block table. Blocks are allocated
    from the end of the pool, so that logical and physical block numbers differ."""

    fill: float = 0.0  # what slots hold that were never written
    n_blocks = 65

    def __init__(self, decoder: DecoderLike, layer: int, options: Any) -> None:
        super().__init__(decoder, layer, options)
        self.table: list[int] = []  # physical blocks
        self.count = 0
        shape = (self.n_blocks, options, decoder.config.n_kv_heads, decoder.config.d_head)
        self.key_pool, self.value_pool = np.full(shape, self.fill), np.full(shape, self.fill)

    def allocate_block(self) -> int:
        """The number of a free physical block."""
        return self.n_blocks - 1 - len(self.table)

    def physical_block(self, block: int) -> int:
        """The physical block that a logical block is read from."""
        return self.table[block]

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        for key, value in zip(keys, values, strict=True):
            block, at = divmod(self.count, self.options)
            if block == len(self.table):
                self.table.append(self.allocate_block())
            self.key_pool[self.table[block], at], self.value_pool[self.table[block], at] = key, value
            self.count += 1

    def n_read(self) -> int:
        """The number of rows that are read."""
        return self.count

    def row_positions(self, count: int) -> Any:
        """The positions of the rows that are read."""
        return np.arange(count)

    def read(self, start: int) -> tuple[list[Any], list[Any], Any]:
        places = [divmod(row, self.options) for row in range(self.n_read())]
        keys = [self.key_pool[self.physical_block(block), at] for block, at in places]
        values = [self.value_pool[self.physical_block(block), at] for block, at in places]
        return keys, values, self.row_positions(len(places))


class QuantisedRows(Rows):
    """`int8:group=N,residual=N` (KIVI, arXiv:2402.02750): whole groups of rows before the last `residual` are stored in
    8 bits, quantised once, at the end of the step that completes them.

    Keys have a scale for each channel and N rows, values for each row and N channels (for all channels where there are
    fewer than the default 64). A scale is max |x| / 127 in float16; the rest is computed in float32.
    """

    def __init__(self, decoder: DecoderLike, layer: int, options: Any) -> None:
        super().__init__(decoder, layer, options)
        self.n_quantised = 0  # rows

    def round(self, x: Any) -> Any:
        """x rounded to whole numbers, the codes."""
        return np.rint(x)

    def round_trip(self, x: Any) -> Any:
        """x [..., n] quantised and dequantised, with one scale for each last axis."""
        x = x.astype(np.float32)
        scale = (np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)).astype(np.float16).astype(np.float32)
        codes = self.round(x / np.where(scale == 0, np.float32(1), scale)).clip(-127, 127)
        return (codes * scale).astype(np.float64)

    def per_channel(self, x: Any) -> Any:
        """x [rows, G, K] quantised and dequantised with a scale for each channel."""
        return np.moveaxis(self.round_trip(np.moveaxis(x, 0, -1)), -1, 0)

    def per_token(self, x: Any) -> Any:
        """x [rows, G, K] quantised and dequantised with a scale for each row and group of channels."""
        group, size = self.options[0], x.shape[-1]
        group = size if group == 64 and size < 64 else group
        return self.round_trip(x.reshape(*x.shape[:2], size // group, group)).reshape(x.shape)

    def pack_keys(self, x: Any) -> Any:
        """Keys [rows, G, K] of one group, quantised and dequantised."""
        return self.per_channel(x)

    def pack_values(self, x: Any) -> Any:
        """Values [rows, G, K] of one group, quantised and dequantised."""
        return self.per_token(x)

    def quantise(self, first: int, stop: int) -> None:
        """Quantise the rows first to stop - 1, one group."""
        for rows, pack in ((self.keys, self.pack_keys), (self.values, self.pack_values)):
            rows[first:stop] = list(pack(np.stack(rows[first:stop])))

    def commit(self) -> None:
        group, residual = self.options
        stop = max(0, (len(self.keys) - residual) // group * group)
        for first in range(self.n_quantised, stop, group):
            self.quantise(first, first + group)
        self.n_quantised = max(self.n_quantised, stop)
