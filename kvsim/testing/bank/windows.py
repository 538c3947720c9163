"""Mistakes in sliding windows. Window W is the current key and the W - 1 before it."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows


@mistake(
    "window_keeps_one_extra",
    "the window is one too long: window W is the current key and the W - 1 before it",
    "窗口大了 1：窗口 W 是当前键和它前面的 W-1 个",
    (3,),
    window=2,
    twin="ml-explore/mlx-lm#390",
)
class OneExtra(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if inputs.window is None else inputs.window + 1


@mistake(
    "window_keeps_one_less",
    "the window is one too short: window W is the current key and the W - 1 before it",
    "窗口小了 1：窗口 W 是当前键和它前面的 W-1 个",
    (2,),
    window=2,
)
class OneLess(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if inputs.window is None else inputs.window - 1


@mistake(
    "window_ignored_in_decode",
    "a decoded token sees beyond the window: the window applies in every step",
    "解码时没有应用窗口：每一步都应遵守窗口",
    (2, 1),
    window=2,
    twin="karpathy/nanochat#452",
)
class IgnoredInDecode(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if len(inputs.query_pos) == 1 else inputs.window


@variant("window_ignored_in_decode")
class IgnoredOnceCached(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None if inputs.fed_before else inputs.window


@mistake("window_ignored", "the window is ignored", "没有应用窗口", (3,), window=2)
class Ignored(Decoder):
    def window(self, inputs: AttentionInputs) -> int | None:
        return None


class Ring(Rows):
    """A ring buffer of W slots, position p in slot p mod W. Correct, because a step reads the rows stored before it and
    all of its own."""

    def __init__(self, decoder: Decoder, layer: int, options: Any = None) -> None:
        super().__init__(decoder, layer, options)
        self.held: dict[int, tuple[int, Any, Any]] = {}  # slot: position, key, value

    def put(self, rows: list[tuple[int, Any, Any]]) -> None:
        size = self.window() or 10**9
        for row in rows:
            self.held[row[0] % size] = row

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
    "a chunk longer than the free part of the ring buffer overwrites rows that its own queries, or later ones, need",
    "比环形缓冲剩余空间更长的分块，覆盖了本块或之后的查询还需要的行",
    (3,),
    window=2,
    twin="Lightning-AI/litgpt#2182; huggingface/transformers#37574",
)
class WrittenBeforeRead(Ring):
    def shown(self) -> list[tuple[int, Any, Any]]:
        return sorted(self.held.values(), key=lambda row: row[0])


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


for _reading in (WrittenBeforeReadFinite, WrittenBeforeReadZeroed, FirstRowsKept, RowsFromSlotZero):
    variant("ring_buffer_prefill_longer_than_window")(_reading)
