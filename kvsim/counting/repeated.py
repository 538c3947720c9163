"""The events of a step that comes again: sizes that grow with the context are forms in t, and one list does for all."""

from collections.abc import Iterable
from typing import Any

from kvsim.counting.events import MatMul
from kvsim.counting.symbolic import Poly, evaluate, value_at


class Repeated:
    """The products of one step for every t of an interval."""

    def __init__(self, events: Iterable[MatMul]) -> None:
        self._events = list(events)
        self.calls = len(self._events)
        self._growing = [i for i, event in enumerate(self._events) if any(isinstance(x, Poly) for x in event)]
        macs: Any = sum(event.macs for event in self._events)
        self._macs = macs.coefficients if isinstance(macs, Poly) else (macs,)

    def at(self, t: int) -> list[MatMul]:
        """The events of the step at t."""
        events = list(self._events)
        for i in self._growing:
            site, *sizes = events[i]
            events[i] = MatMul(site, *(value_at(size, t) for size in sizes))
        return events

    def macs_at(self, t: int) -> int:
        """The multiply-accumulates that they add up to."""
        return int(evaluate(self._macs, t))
