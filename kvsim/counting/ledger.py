"""Sums over events. All exact integers; macs and flops = 2 · macs are never mixed up."""

import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

from kvsim.counting.events import PROJECTIONS, SCORES, MatMul, make_event
from kvsim.errors import OtherThreadsWarning, UsageError


class Totals(NamedTuple):
    """What some of the products add up to."""

    calls: int
    macs: int
    useful_macs: int

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def useful_flops(self) -> int:
        return 2 * self.useful_macs


def total(events: Iterable[MatMul]) -> Totals:
    """The totals of any events."""
    calls = macs = useful = 0
    for _, b, m, k, n, useful_macs in events:
        calls += 1
        macs += b * m * k * n
        useful += useful_macs
    return Totals(calls, macs, useful)


def level_outside() -> int:
    """The `stacklevel` by which a warning names the first line outside the package, for its caller."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "kvsim":
        level, frame = level + 1, frame.f_back
    return level + 1


class Others(Protocol):
    """What other threads run meanwhile."""

    def count(self) -> tuple[int, int]:
        """Products that a ledger in their own thread counted, and those that none did."""


class Ledger:
    """The products that ran in one thread while it was open there, in order (`with model.count() as ledger:`).

    It may be read at any time, from any thread, open or closed.
    """

    def __init__(self, events: Iterable[MatMul] = (), *, warns: bool = False) -> None:
        self._made: tuple[int, list[MatMul]] = (0, list(events))  # entries of the log made into events, and these
        self._log: list[Any] = []  # of the thread; the entries from `_start` to `_stop` are this ledger's
        self._start = 0
        self._stop: int | None = 0
        self._others: Others | None = None  # what other threads run meanwhile
        self._elsewhere = (0, 0)  # what they ran, once it is closed
        self._warns = warns

    def open(self, log: list[Any], others: Others) -> None:
        """What is added to `log` from now on is in it."""
        self._others, self._start, self._stop, self._log = others, len(log), None, log

    def close(self) -> None:
        """What is added from now on is not. Once is enough: a second time changes nothing."""
        if self._stop is None:
            self._stop = len(self._log)
        if self._others is not None:
            self._elsewhere, self._others = self._others.count(), None

    def __reduce__(self) -> Any:
        """A copy is closed: it has what this one has now."""
        return Ledger, (self._read(),), {"_elsewhere": self._count_elsewhere(), "_warns": self._warns}

    def _count_elsewhere(self) -> tuple[int, int]:
        others = self._others  # None as soon as its own thread closes it
        return self._elsewhere if others is None else others.count()

    def _read(self) -> list[MatMul]:
        """All events so far. Two threads that read at once make the same ones."""
        done, events = self._made
        new = self._log[self._start + done : self._stop]
        if new:
            events = [*events, *(make_event(*entry) for entry in new)]
            self._made = (done + len(new), events)
        return events

    @property
    def left_out(self) -> int:
        """Products of the same model that other threads ran while it was open, and that are lost to whoever reads only
        this ledger: those that no ledger in their own threads counted; all of them if this one is closed and empty,
        as one is that was opened around threads which count for themselves."""
        counted, uncounted = self._count_elsewhere()
        empty = self._others is None and not self._read()
        return counted + uncounted if empty else uncounted

    def _warn(self) -> None:
        if (count := self.left_out) > 0:
            warnings.warn(
                f"{count} products of this model ran in other threads while this ledger was open, and are not in it: a"
                " ledger counts the thread that opened it; open one in each thread that runs the model",
                OtherThreadsWarning,
                stacklevel=level_outside(),
            )

    @property
    def events(self) -> list[MatMul]:
        """All of them. OtherThreadsWarning: `left_out` is not 0 (a ledger of `model.count()`)."""
        if self._warns:
            self._warn()
        return self._read()

    @events.setter
    def events(self, events: list[MatMul]) -> None:
        self._made = (self._made[0], events)

    def __iter__(self) -> Iterator[MatMul]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    @property
    def macs(self) -> int:
        """Multiply-accumulates executed, all products."""
        return total(self.events).macs

    @property
    def flops(self) -> int:
        """Floating-point operations executed: 2 · macs."""
        return 2 * self.macs

    @property
    def useful_macs(self) -> int:
        """Multiply-accumulates on pairs that the mask admits; everything outside attention."""
        return total(self.events).useful_macs

    def by(self, key: Literal["site", "layer", "kind"]) -> dict[str, Totals]:
        """Totals per site ("layers.0.scores"), layer ("layers.0", "head") or kind ("scores")."""
        if key not in ("site", "layer", "kind"):
            raise UsageError("unknown key {key}: use site, layer or kind", key=repr(key))
        groups: dict[str, list[MatMul]] = {}
        for event in self.events:
            groups.setdefault(getattr(event, key), []).append(event)
        return {name: total(events) for name, events in groups.items()}

    def _of_layer(self, layer: int, kinds: tuple[str, ...]) -> list[MatMul]:
        """The events of these kinds in `layer`. UsageError if products ran and none in such a layer."""
        events = self.events
        if events and not any(event.layer == f"layers.{layer}" for event in events):
            raise UsageError("nothing was counted in layer {layer}: the first is 0", layer=layer)
        sites = {f"layers.{layer}.{kind}" for kind in kinds}
        return [event for event in events if event.site in sites]

    def score_cells(self, layer: int = 0) -> int:
        """Rows × columns of QKᵀ that were computed, for one head of `layer`."""
        return sum(event.m * event.n for event in self._of_layer(layer, (SCORES,)))

    def useful_cells(self, layer: int = 0) -> int:
        """Those of the score cells that the mask admits."""
        return sum(event.useful_macs // (event.b * event.k) for event in self._of_layer(layer, (SCORES,)))

    def projected_rows(self, layer: int = 0) -> int:
        """Rows that met the Q, K or V weight of `layer`, each of the three counted."""
        return sum(event.m for event in self._of_layer(layer, PROJECTIONS))
