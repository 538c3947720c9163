"""Mistakes in ring buffers, which hold the rows of a sliding window."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows


class Ring(Rows):
    """A ring buffer of W slots, position p in slot p mod W. Correct, because a step reads the rows stored before it and
    all of its own."""

    def __init__(self, decoder: Decoder, layer: int, options: Any = None) -> None:
        super().__init__(decoder, layer, options)
        self.held: dict[int, tuple[int, Any, Any]] = {}  # slot: position, key, value

    def put(self, rows: list[tuple[int, Any, Any]]) -> None:
        size = self.window() or 10**9
        self.held = self.held | {row[0] % size: row for row in rows}  # a new one: forks have the old one

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        self.now = list(zip(range(start, start + len(keys)), keys, values, strict=True))
        self.before = sorted(self.held.values(), key=lambda row: row[0])
        self.put(self.now)

    def shown(self) -> list[tuple[int, Any, Any]]:
        return [*self.before, *self.now]

    def read(self, start: int) -> Any:
        rows = self.shown()
        return [key for _, key, _ in rows], [value for _, _, value in rows], np.array([at for at, _, _ in rows])


@mistake(
    "ring_buffer_prefill_longer_than_window",
    "a chunk longer than the free part overwrites (in a ring buffer) or drops rows that its own or later queries need",
    "分块比剩余空间更长，覆盖（环形缓冲）或丢掉了本块或之后的查询还需要的行",
    (3,),
    window=2,
    twin="Lightning-AI/litgpt#2182; huggingface/transformers#37574; lablup/mlxcel#413; pytorch/executorch#20346;"
    " rajveer43/VeloxQuant-MLX#370",
)
class WrittenBeforeRead(Ring):
    def shown(self) -> list[tuple[int, Any, Any]]:
        return sorted(self.held.values(), key=lambda row: row[0])


class WrittenBeforeReadInTwice(WrittenBeforeRead):
    """A ring of twice the window."""

    def put(self, rows: list[tuple[int, Any, Any]]) -> None:
        size = 2 * (self.window() or 10**9)
        for row in rows:
            self.held[row[0] % size] = row


class WrittenBeforeReadFinite(Decoder):
    """With a finite mask: a query none of whose keys is left sees all rows."""

    caches = POLICIES | {"dynamic": WrittenBeforeRead}

    def mask(self, scores_HTS: Any, allowed_TS: Any) -> Any:
        return np.where(allowed_TS, scores_HTS, -1e9)


class WrittenBeforeReadZeroed(Decoder):
    """With 0 for a query none of whose keys is left."""

    caches = POLICIES | {"dynamic": WrittenBeforeRead}

    def softmax(self, scores_HTS: Any) -> Any:
        return np.nan_to_num(super().softmax(scores_HTS))


class FirstRowsKept(Ring):
    """Keeps the first W rows of a prompt longer than the window."""

    def put(self, rows: list[tuple[int, Any, Any]]) -> None:
        super().put(rows if self.held else rows[: self.window()])


class RowsFromSlotZero(Ring):
    """The last W rows of a long prompt go to the slots 0, 1 ..., later ones to p mod W."""

    def put(self, rows: list[tuple[int, Any, Any]]) -> None:
        size = self.window()
        if self.held or size is None or len(rows) <= size:
            super().put(rows)
        else:
            self.held = dict(enumerate(rows[-size:]))


class WrittenBeforeReadOnceCached(WrittenBeforeRead):
    """The first chunk is read in whole."""

    def shown(self) -> list[tuple[int, Any, Any]]:
        return super().shown() if self.now[0][0] else [*self.before, *self.now]


class WrittenBeforeReadOnceCachedFinite(WrittenBeforeReadFinite):
    caches = POLICIES | {"dynamic": WrittenBeforeReadOnceCached}


_READINGS: tuple[type[Any], ...] = (
    WrittenBeforeReadFinite,
    WrittenBeforeReadZeroed,
    WrittenBeforeReadOnceCached,
    WrittenBeforeReadInTwice,
    WrittenBeforeReadOnceCachedFinite,
    FirstRowsKept,
    RowsFromSlotZero,
)
for _reading in _READINGS:
    variant("ring_buffer_prefill_longer_than_window")(_reading)
