"""What is done to the independent decoder between steps: it is cropped, forked, and several are put in another order.
A mistake overrides one method."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from kvsim.testing.independent.rows import Rows


class Edited:
    """A decoder with the rows of each layer, and the number of tokens that it has seen."""

    rows: "list[Rows]"
    seen: int

    def crop(self, length: int) -> None:
        """Discard all tokens but the first `length`."""
        for rows in self.rows:
            rows.crop(length)
        self.seen = length

    def fork(self) -> Self:
        """An independent decoder with the same contents."""
        other: Any = copy.copy(self)
        other.rows = [rows.fork(other) for rows in self.rows]
        return other  # type: ignore[no-any-return]

    @classmethod
    def reorder(cls, beams: "list[Self]", order: Sequence[int]) -> "list[Self]":
        """Independent decoders, place i with the contents of `beams[order[i]]`, as beam search needs them."""
        return [beams[i].fork() for i in order]
