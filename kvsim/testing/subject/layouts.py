"""Layouts of queries, keys and values as strings: "b t h d", "h t d", "b t (h d)"."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import UsageError, shortened


class Layout(NamedTuple):
    """The order of the axes b t h d; `joined`: the last two are merged into one axis."""

    letters: tuple[str, ...]
    joined: bool = False

    @property
    def batched(self) -> bool:
        """Whether there is a batch axis."""
        return "b" in self.letters

    def put(self, x_BTHD: Any) -> Any:
        """x [B, T, H, D] in this layout, contiguous. Without a batch axis: its first sequence only."""
        kept = x_BTHD if self.batched else x_BTHD[0]
        names = "bthd" if self.batched else "thd"
        moved = np.ascontiguousarray(kept.transpose([names.index(letter) for letter in self.letters]))
        return moved.reshape(*moved.shape[:-2], -1) if self.joined else moved

    def shape(self, b: int, t: int, h: int, d: int) -> tuple[int, ...]:
        """The shape of an array of these sizes in this layout."""
        sizes = {"b": b, "t": t, "h": h, "d": d}
        found = tuple(sizes[letter] for letter in self.letters)
        return (*found[:-2], found[-2] * found[-1]) if self.joined else found

    def take(self, x: Any, shape_BTHD: tuple[int, int, int, int]) -> Any:
        """The inverse of `put`: x in this layout as [B, T, H, D]."""
        sizes = dict(zip("bthd", shape_BTHD, strict=True))
        x = x.reshape([sizes[letter] for letter in self.letters])
        names = "bthd" if self.batched else "thd"
        moved = x.transpose([self.letters.index(letter) for letter in names])
        return moved if self.batched else moved[None]


def read_layout(text: str) -> Layout:
    """Parse a layout. UsageError: t, h or d is missing or repeated, another letter than b, or brackets elsewhere than
    around the last two."""
    words = text.split() if isinstance(text, str) else []
    joined = len(words) >= 2 and words[-2].startswith("(") and words[-1].endswith(")")
    if joined:
        words = [*words[:-2], words[-2][1:], words[-1][:-1]]
    if sorted(words) not in (["d", "h", "t"], ["b", "d", "h", "t"]):
        raise UsageError(
            'a layout has the letters t, h and d, and b where there are batches, as in "b t h d" or "b t (h d)",'
            " not {got}",
            got=shortened(text),
        )
    return Layout(tuple(words), joined)
