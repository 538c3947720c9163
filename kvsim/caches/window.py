"""`window:W`: sliding-window attention. Each query sees W tokens, its own included; a layer keeps the last W - 1 rows.

Most other policies use it, too, for layers whose attention has a window W in the model; there it is lossless. In other
layers it computes exactly the model with that window (Longformer, arXiv:2004.05150; Mistral, arXiv:2310.06825),
however the tokens are split into steps.
"""

from typing import Any

from kvsim.arrays import Array
from kvsim.caches.base import Encode, LayerCache, Shape, State, Waste, array_bytes, check_numbers, read_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.spans import Span, View

SPARE = 1_024  # columns


class WindowLayer(LayerCache):
    """Rows of the positions `pos`, starting at column `at` of one array for keys and one for values.

    New rows are appended. Rows that leave the window are dropped by the next update only. When the arrays are full, the
    rows in the window are copied to new ones: once in about W steps, and until a long window is full as often as the
    rows double.
    """

    example = "window:256"
    promise = Words("the last W tokens of each query; equal to the model with that window")
    paper = "arXiv:2310.06825"
    lossless = False
    symbolic = True
    takes_windows = True

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        super().__init__(ops, shape, options)
        self.kept = options - 1
        self.pos, self.at = Span(0, 0), 0
        self._keys, self._values = self._allocate(0)

    @classmethod
    def read_options(cls, name: str, text: str) -> int:
        return read_whole(text, name, cls.example)

    @classmethod
    def is_lossless(cls, config: Config, options: int) -> bool:
        return all(kind.window is not None and kind.window <= options for kind in config.layers)

    @classmethod
    def new_layer(cls, ops: Ops, shape: Shape, options: int, window: int | None) -> LayerCache:
        return cls(ops, shape, options if window is None else min(options, window))

    def _old(self, stop: int) -> slice:
        """The columns of the rows before position `stop` that a query at `stop` can see."""
        first = max(self.pos.start, stop - self.kept)
        return slice(self.at + first - self.pos.start, self.at + stop - self.pos.start)

    def _room(self, held: Any) -> Any:
        """Columns for `held` rows and those to come: a window more, but no more than as many again beyond SPARE, since
        a window may be longer than any text."""
        if not self.ops.backend.holds_data:
            return held + self.kept
        return held + min(self.kept, max(held, SPARE))

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View]:
        old = self._old(pos.start)
        start, count = old.start, old.stop - old.start
        keys, values = encode(keys, values, pos)
        if start + count + pos.size > self._keys.shape[1]:
            moved = self._allocate(self._room(count + pos.size))
            moved[0][:, :count, :], moved[1][:, :count, :] = self._keys[:, old, :], self._values[:, old, :]
            (self._keys, self._values), start = moved, 0
        self._keys[:, start + count : start + count + pos.size, :] = keys
        self._values[:, start + count : start + count + pos.size, :] = values
        self.pos, self.at = Span(pos.start - count, pos.stop), start
        rows = slice(start, start + count + pos.size)
        return (View(self._keys[:, rows, :], self._values[:, rows, :], self.pos, pos, self.kept + 1),)

    @property
    def held_positions(self) -> tuple[Span, ...]:
        return (Span(max(self.pos.start, self.pos.stop - self.kept), self.pos.stop),)

    @property
    def keys(self) -> Array:
        return self._keys[:, self._old(self.pos.stop), :]

    @property
    def values(self) -> Array:
        return self._values[:, self._old(self.pos.stop), :]

    @property
    def allocated_bytes(self) -> int:
        return array_bytes(self.ops, self._keys, self._values)

    @property
    def waste(self) -> Waste:
        """Columns before the window hold rows that no query sees; those after it are for tokens to come."""
        column = self.shape.row_bytes(self.ops)
        held = self._old(self.pos.stop)
        return Waste(reserved=(self._keys.shape[1] - held.stop) * column, external=held.start * column)

    def check_crop(self, length: int) -> None:
        first = max(length - self.kept, 0)
        if first < self.pos.start:
            raise UsageError(
                "a window of {window} tokens cannot be cropped to {length}: the rows before {first} have been evicted",
                window=self.kept + 1,
                length=length,
                first=self.pos.start,
            )

    def crop(self, length: int) -> None:
        self.pos = Span(self.pos.start, length)

    def state(self) -> State:
        held = self._old(self.pos.stop)
        return State(
            {"start": self.pos.stop - (held.stop - held.start), "stop": self.pos.stop},
            {"keys": self.keys, "values": self.values},
        )

    def restore(self, state: State) -> None:
        self.pos, self.at = Span(state.numbers["start"], state.numbers["stop"]), 0
        self._keys, self._values = self._allocate(self._room(self.pos.size))
        self._keys[:, : self.pos.size, :] = state.arrays["keys"]
        self._values[:, : self.pos.size, :] = state.arrays["values"]

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        start = max(seen - self.kept, 0)
        check_numbers(numbers, {"start": start, "stop": seen})
        return self._shapes(seen - start)
