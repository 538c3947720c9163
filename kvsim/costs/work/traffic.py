"""Bytes that a step moves at least: weights, and keys and values that a cache keeps.

Each array of weights is read once a step, of the tables (tokens, learned positions) one row for each token, of a
mixture the experts that are chosen (for several tokens at most: each could choose others). Keys and values are read
where an earlier step wrote them, and written where a cache takes them in: a step's own rows come from its
projections, as activations do, which are not counted, nor are logits.
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
    """Bytes. Of one step each may be a polynomial."""

    weights: Any
    kv_read: Any
    kv_written: Any

    @property
    def total(self) -> Any:
        return self.weights + self.kv_read + self.kv_written


NOTHING = Moved(0, 0, 0)


def filled(forms: Forms, tokens: Any, source: int) -> Cache:
    """A cache of shapes that has taken in the rows of `tokens` tokens and of the source."""
    ops = forms.shapes.ops
    cache = new_cache(forms.spec, forms.kinds.config, ops)
    pos = cache.admit(tokens)

    def made(shape: Shape, rows: Any) -> tuple[Any, Any]:
        g, k, v = shape
        return ops.xp.empty((g, rows, k), dtype=ops.dtype), ops.xp.empty((g, rows, v), dtype=ops.dtype)

    for layer in cache.layers:
        layer.update(*made(layer.shape, tokens), pos, lambda keys, values, pos: (keys, values))
    for cross in cache.cross:
        cross.read(partial(made, cross.shape, source))
    cache.commit(pos)
    return cache


@dataclass(frozen=True)
class Traffic:
    """What the steps of `count` move."""

    count: Count
    parameters: Reads

    @property
    def keeps(self) -> bool:
        """Does the cache keep anything?"""
        return parse_spec(self.count.cache).policy.keeps

    @property
    def _item(self) -> int:
        return self.count.forms.shapes.ops.item_bytes

    @property
    def _times(self) -> list[int]:
        return [len(who) for who in self.count.forms.kinds.members]

    def held(self, tokens: Any) -> Any:
        """Bytes of the rows that a cache holds after `tokens` tokens, those of the source among them."""
        cache = filled(self.count.forms, tokens, self.count.source)
        own = sum((layer.logical_bytes * n for layer, n in zip(cache.layers, self._times, strict=True)), 0)
        return own + sum(cross.logical_bytes * n for cross, n in zip(cache.cross, self._times, strict=False))

    def written(self, tokens: Any, first: bool) -> Any:
        """Bytes of the rows that a cache takes in with a step of `tokens`, its `first` with the source's."""
        if not self.keeps:
            return 0
        forms = self.count.forms
        cache = filled(forms, 1, self.count.source)
        row = sum(
            layer.shape.row_bytes(forms.shapes.ops) * n for layer, n in zip(cache.layers, self._times, strict=True)
        )
        cross = sum(layer.logical_bytes * n for layer, n in zip(cache.cross, self._times, strict=False))
        return row * tokens + (cross if first else 0)

    def weights(self, tokens: Any, first: bool) -> Any:
        """Bytes of the weights that a step of `tokens` reads; the encoder runs in the `first`."""
        numbers = self.parameters.read(tokens)
        if first:
            numbers += self.parameters.read_source(self.count.source)
        if first or not self.keeps:  # a cache keeps what is made of the source
            numbers += self.parameters.decoder.cross
        return numbers * self._item

    def first_step(self) -> Moved:
        """The step that feeds the prompt."""
        prompt = self.count.prompt
        return Moved(self.weights(prompt, True), 0, self.written(prompt, True))

    def other_steps(self) -> Iterator[tuple[Piece[Moved], int]]:
        """The others, each piece with what its t is beyond the number of the step, as in `Count.numbered`."""
        prompt, new = self.count.prompt, self.count.new
        if not self.keeps:
            for piece in pieces(prompt + 1, prompt + new - 1, lambda t: Moved(self.weights(t, False), 0, 0)):
                yield piece, prompt - 1
            return
        weights, written = self.weights(1, False), self.written(1, False)
        for piece in pieces(prompt, prompt + new - 2, lambda t: Moved(weights, self.held(t), written)):
            yield piece, prompt - 2

    def other_steps_together(self) -> Moved:
        """All steps but the first."""
        found = NOTHING
        for piece, _ in self.other_steps():
            summed = (sum_over(form, piece.lo, piece.hi) for form in piece.value)
            found = Moved(*(a + b for a, b in zip(found, summed, strict=True)))
        return found
