"""A cache under test, in another process, in the independent decoder of this one."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows
from kvsim.testing.subject.calls import UnreadableError, to_host
from kvsim.testing.subject.remote import RemoteObject, reorder
from kvsim.testing.subject.weights import ModelWeights

MOST_ROWS = 4096  # that a cache may return


def empty(thing: RemoteObject) -> None:
    """Empty an object of the code by a method of its own. NotImplementedError: it has none."""
    if thing.remote.call("clear", number=thing.number)[0].get("cleared") is not True:
        raise NotImplementedError


class ForeignRows(Rows):
    """A cache under test: `update(layer, keys, values)` takes the new rows [G, T, K], rotated, and returns all rows
    that it holds, the newest last."""

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        foreign: RemoteObject = self.decoder.foreign  # type: ignore[attr-defined]
        held = foreign.update(self.layer, np.stack(keys, axis=1), np.stack(values, axis=1))
        all_keys, all_values = (to_host(x)[0] for x in held)
        (g, k), stop = keys[0].shape, start + len(keys)
        shapes = [list(x.shape) for x in (all_keys, all_values)]
        fit = shapes[0] == shapes[1] and all_keys.ndim == 3 and shapes[0][::2] == [g, k]
        if not fit or shapes[0][1] > MOST_ROWS:
            raise UnreadableError("update gave keys and values of shapes {got}, expected [{g}, rows, {k}] each",
                                  got=shapes, g=g, k=k)  # fmt: skip
        self.keys, self.values = list(all_keys.transpose(1, 0, 2)), list(all_values.transpose(1, 0, 2))
        self.positions = list(range(stop - len(self.keys), stop))


class WithCache(Decoder):
    """The independent decoder with a cache under test."""

    caches = POLICIES | {"dynamic": ForeignRows}

    def __init__(self, weights: ModelWeights, cache: RemoteObject) -> None:
        self.foreign = cache
        super().__init__(weights.config.to_config(), weights.to_weights())

    def empty(self) -> None:
        """Empty the cache by a method of its own. NotImplementedError: it has none."""
        empty(self.foreign)
        self.rows, self.seen = self.new_rows(), 0

    def crop(self, length: int) -> None:
        """Crop it by a method of its own."""
        self.foreign, self.seen = self.foreign.crop(length), length

    def fork(self) -> Self:
        """A decoder with a fork of the cache."""
        return self.with_cache(self.foreign.fork())

    @classmethod
    def reorder(cls, beams: list[Self], order: Sequence[int]) -> list[Self]:
        """Decoders with the caches in the places of an order."""
        caches = reorder([one.foreign for one in beams], list(order))
        return [beams[i].with_cache(cache) for i, cache in zip(order, caches, strict=True)]

    def with_cache(self, cache: RemoteObject) -> Self:
        """A decoder that has been fed the same tokens, with another cache."""
        other = copy.copy(self)
        other.foreign = cache
        other.rows = other.new_rows()
        return other
