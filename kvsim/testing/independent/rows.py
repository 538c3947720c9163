"""The caches of the independent decoder: one layer's rows in plain lists. A mistake overrides one method.

Each is given the raw queries, keys and values of the new tokens, keeps rows its own way, and answers with what the
queries look at.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from kvsim.testing.independent.attending import Look

if TYPE_CHECKING:
    from kvsim.testing.independent.decoder import Decoder


class Rows:
    """Every row, in the order in which they came; keys are kept rotated. Also what `dynamic` and `static` are."""

    def __init__(self, decoder: "Decoder", layer: int, options: Any = None) -> None:
        self.decoder, self.layer, self.options = decoder, layer, options
        self.keys: list[Any] = []  # [G, K] each
        self.values: list[Any] = []
        self.positions: list[int] = []

    def window(self) -> int | None:
        return self.decoder.config.layers[self.layer].window

    def update(self, start: int, q: list[Any], k: list[Any], v: list[Any], positions: list[int]) -> list[Look]:
        """The new tokens start, start + 1 ...: take their rows; what each query looks at, in order. `positions` are
        those they are rotated by."""
        d, layer = self.decoder, self.layer
        queries = [d.encode_query(layer, x, at) for x, at in zip(q, positions, strict=True)]
        keys = [d.encode_key(layer, x, at) for x, at in zip(k, positions, strict=True)]
        values = [d.encode_value(layer, x, at) for x, at in zip(v, positions, strict=True)]
        self.append(start, keys, values)
        return [self.look(start, queries)]

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.keys, self.values = self.keys + keys, self.values + values
        self.positions = self.positions + list(range(start, start + len(keys)))

    def look(self, start: int, queries: list[Any]) -> Look:
        """The queries at start, start + 1 ... and all rows they may look at."""
        query_pos = np.arange(start, start + len(queries))
        keys, values, key_pos = self.read(start)
        scale = self.decoder.layer_scale(self.layer)
        return Look(np.stack(queries), np.stack(keys), np.stack(values), query_pos, key_pos, self.window(), scale)

    def read(self, start: int) -> tuple[list[Any], list[Any], Any]:
        """Keys, values and positions of the rows; the step's own begin at position `start`."""
        return self.keys, self.values, np.array(self.positions)

    def commit(self) -> None:
        """Every layer is through."""


class WindowRows(Rows):
    """`window:W`: the mask of a window that the model need not have."""

    def window(self) -> int | None:
        own, given = super().window(), int(self.options)
        return given if own is None else min(own, given)


class SinkRows(Rows):
    """`sinks:S+W` (arXiv:2309.17453): each query sees the first S tokens and the last W, numbered 0, 1 ... inside of
    what it sees. Rows are kept without positions and rotated when they are read."""

    def update(self, start: int, q: list[Any], k: list[Any], v: list[Any], positions: list[int]) -> list[Look]:
        self.append(start, k, v)
        return [self.look_from(start + t, query) for t, query in enumerate(q)]

    def seen_from(self, position: int) -> list[int]:
        sinks, last = self.options
        return [p for p in range(position + 1) if p < sinks or p > position - last]

    def numbers(self, seen: list[int]) -> list[int]:
        """The positions that rows are rotated by; the query is the last of them."""
        return list(range(len(seen)))

    def look_from(self, position: int, query: Any) -> Look:
        seen, d = self.seen_from(position), self.decoder
        numbers = self.numbers(seen)
        keys = [d.encode_key(self.layer, self.keys[p], at) for p, at in zip(seen, numbers, strict=True)]
        values = [self.values[p] for p in seen]
        turned = d.encode_query(self.layer, query, numbers[-1])[None]
        scale = d.layer_scale(self.layer)
        return Look(turned, np.stack(keys), np.stack(values), np.array([position]), np.array(seen), None, scale)


class PagedRows(Rows):
    """`paged:B` (arXiv:2309.06180): blocks of B rows anywhere in one pool, found through a table. Blocks are given out
    backwards, so that a logical number is never the physical one by chance; what was never written is `junk`."""

    junk: float = 0.0
    n_blocks = 65

    def __init__(self, decoder: "Decoder", layer: int, options: Any) -> None:
        super().__init__(decoder, layer, options)
        self.table: list[int] = []  # physical blocks
        self.count = 0
        shape = (self.n_blocks, options, decoder.config.n_kv_heads, decoder.config.d_head)
        self.key_pool, self.value_pool = np.full(shape, self.junk), np.full(shape, self.junk)

    def take_block(self) -> int:
        """A free block."""
        return self.n_blocks - 1 - len(self.table)

    def physical(self, block: int) -> int:
        """Where a logical block is read."""
        return self.table[block]

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        for key, value in zip(keys, values, strict=True):
            block, at = divmod(self.count, self.options)
            if block == len(self.table):
                self.table.append(self.take_block())
            self.key_pool[self.table[block], at], self.value_pool[self.table[block], at] = key, value
            self.count += 1

    def read_count(self) -> int:
        """How many rows are read."""
        return self.count

    def row_positions(self, count: int) -> Any:
        return np.arange(count)

    def read(self, start: int) -> tuple[list[Any], list[Any], Any]:
        places = [divmod(row, self.options) for row in range(self.read_count())]
        keys = [self.key_pool[self.physical(block), at] for block, at in places]
        values = [self.value_pool[self.physical(block), at] for block, at in places]
        return keys, values, self.row_positions(len(places))


class QuantisedRows(Rows):
    """`int8:group=N,residual=N` (KIVI, arXiv:2402.02750): of n rows the first whole groups before the last `residual`
    are kept in 8 bits, quantised once, when the step that brings them is through. Keys share a scale in each channel
    over N rows, values in each row over N channels (all, where there are fewer than the usual 64); a scale is the
    largest |x| / 127, in float16, all else float32."""

    def __init__(self, decoder: "Decoder", layer: int, options: Any) -> None:
        super().__init__(decoder, layer, options)
        self.done = 0  # rows that are quantised

    def round(self, x: Any) -> Any:
        return np.rint(x)

    def through(self, x: Any) -> Any:
        """x [..., n], whose last axis shares a scale, as it is read back."""
        x = x.astype(np.float32)
        scale = (np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)).astype(np.float16).astype(np.float32)
        codes = self.round(x / np.where(scale == 0, np.float32(1), scale)).clip(-127, 127)
        return (codes * scale).astype(np.float64)

    def by_channel(self, x: Any) -> Any:
        """x [rows, G, K], a scale for each channel."""
        return np.moveaxis(self.through(np.moveaxis(x, 0, -1)), -1, 0)

    def by_token(self, x: Any) -> Any:
        """x [rows, G, K], a scale for each row and group of channels."""
        group, size = self.options[0], x.shape[-1]
        group = size if group == 64 and size < 64 else group
        return self.through(x.reshape(*x.shape[:2], size // group, group)).reshape(x.shape)

    def pack_keys(self, x: Any) -> Any:
        return self.by_channel(x)

    def pack_values(self, x: Any) -> Any:
        return self.by_token(x)

    def quantise(self, first: int, stop: int) -> None:
        """Keep these rows, one group, in 8 bits."""
        for rows, pack in ((self.keys, self.pack_keys), (self.values, self.pack_values)):
            rows[first:stop] = list(pack(np.stack(rows[first:stop])))

    def commit(self) -> None:
        group, residual = self.options
        stop = max(0, (len(self.keys) - residual) // group * group)
        for first in range(self.done, stop, group):
            self.quantise(first, first + group)
        self.done = max(self.done, stop)
