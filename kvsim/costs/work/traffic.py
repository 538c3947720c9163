"""A lower bound on the bytes that a step moves: weights, and the keys and values in the cache.

Each weight array is read once a step; of the tables (tokens, learned positions) one row for each token; of a mixture
the chosen experts (for several tokens an upper bound, since each may choose others). Keys and values of earlier steps
are read, those of the step itself are written. Activations, logits and the reads of a step's own keys and values are
not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from kvsim.caches import new_cache
from kvsim.caches.base import Shape
from kvsim.caches.cache import Cache
from kvsim.caches.specs import parse_spec
from kvsim.costs.work.counter import Count
from kvsim.costs.work.forms import Forms
from kvsim.costs.work.reads import Reads
from kvsim.counting.symbolic import Piece, pieces, sum_over


class Moved(NamedTuple):
    """Bytes, each a number, or for one step a polynomial."""

    weights: Any
    kv_read: Any
    kv_written: Any

    @property
    def total(self) -> Any:
        """The sum of the three."""
        return self.weights + self.kv_read + self.kv_written


NOTHING = Moved(0, 0, 0)


def filled_cache(forms: Forms, tokens: Any, source: int) -> Cache:
    """A cache of shapes that holds the rows of `tokens` tokens and of `source` encoder positions."""
    ops = forms.shapes.ops
    cache = new_cache(forms.spec, forms.kinds.config, ops)
    pos = cache.admit(tokens)

    def empty_rows(shape: Shape, rows: Any) -> tuple[Any, Any]:
        g, k, v = shape
        return ops.xp.empty((g, rows, k), dtype=ops.dtype), ops.xp.empty((g, rows, v), dtype=ops.dtype)

    for layer in cache.layers:
        layer.update(*empty_rows(layer.shape, tokens), pos, lambda keys, values, pos: (keys, values))
    for cross in cache.cross:
        cross.read(partial(empty_rows, cross.shape, source))
    cache.commit(pos)
    return cache


@dataclass(frozen=True)
class Traffic:
    """Bytes that the steps of `count` move."""

    count: Count
    reads: Reads

    @property
    def keeps(self) -> bool:
        """Whether the cache keeps rows from step to step."""
        return parse_spec(self.count.cache).policy.keeps

    @property
    def _item(self) -> int:
        return self.count.forms.shapes.ops.item_bytes

    @property
    def _times(self) -> list[int]:
        return [len(who) for who in self.count.forms.kinds.members]

    def held(self, tokens: Any) -> Any:
        """Bytes of the rows that the cache holds after `tokens` tokens, including those of the source."""
        cache = filled_cache(self.count.forms, tokens, self.count.source)
        own = sum((layer.logical_bytes * n for layer, n in zip(cache.layers, self._times, strict=True)), 0)
        return own + sum(cross.logical_bytes * n for cross, n in zip(cache.cross, self._times, strict=False))

    def written(self, tokens: Any, first: bool) -> Any:
        """Bytes of the rows that a step of `tokens` tokens writes; the `first` step writes those of the source too."""
        if not self.keeps:
            return 0
        forms = self.count.forms
        cache = filled_cache(forms, 1, self.count.source)
        row = sum(
            layer.shape.row_bytes(forms.shapes.ops) * n for layer, n in zip(cache.layers, self._times, strict=True)
        )
        cross = sum(layer.logical_bytes * n for layer, n in zip(cache.cross, self._times, strict=False))
        return row * tokens + (cross if first else 0)

    def weights(self, tokens: Any, first: bool) -> Any:
        """Bytes of the weights that a step of `tokens` tokens reads; the encoder runs in the `first` step."""
        numbers = self.reads.read(tokens)
        if first:
            numbers += self.reads.read_source(self.count.source)
        if first or not self.keeps:  # a cache keeps keys and values of the source
            numbers += self.reads.decoder.cross
        return numbers * self._item

    def first_step(self) -> Moved:
        """Bytes that the step that feeds the prompt moves."""
        prompt = self.count.prompt
        return Moved(self.weights(prompt, True), 0, self.written(prompt, True))

    def other_steps(self) -> Iterator[tuple[Piece[Moved], int]]:
        """Bytes that the other steps move, each piece with the difference of its t and the number of the step."""
        prompt, new = self.count.prompt, self.count.new
        if not self.keeps:
            for piece in pieces(prompt + 1, prompt + new - 1, lambda t: Moved(self.weights(t, False), 0, 0)):
                yield piece, prompt - 1
            return
        weights, written = self.weights(1, False), self.written(1, False)
        for piece in pieces(prompt, prompt + new - 2, lambda t: Moved(weights, self.held(t), written)):
            yield piece, prompt - 2

    def other_steps_together(self) -> Moved:
        """Bytes that all steps but the first move."""
        found = NOTHING
        for piece, _ in self.other_steps():
            summed = (sum_over(form, piece.lo, piece.hi) for form in piece.value)
            found = Moved(*(a + b for a, b in zip(found, summed, strict=True)))
        return found
