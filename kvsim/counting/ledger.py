"""Ledgers: sums over the events of matrix products, as exact integers. flops = 2 · macs."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from kvsim.counting.events import PROJECTIONS, SCORES, MatMul, make_event
from kvsim.errors import OtherThreadsWarning, UsageError, shortened
from kvsim.schemas.display import mimebundle


class Totals(NamedTuple):
    """The sums over some products."""

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
    """The sums over `events`."""
    calls = macs = useful = 0
    for _, b, m, k, n, useful_macs in events:
        calls += 1
        macs += b * m * k * n
        useful += useful_macs
    return Totals(calls, macs, useful)


def level_outside() -> int:
    """The `stacklevel` with which the caller's warning points to the first line outside the package."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "kvsim":
        level, frame = level + 1, frame.f_back
    return level + 1


class Others(Protocol):
    """The products of other threads since a ledger was opened."""

    def count(self) -> tuple[int, int]:
        """The numbers of products counted by a ledger of their own thread, and counted by none."""


class Ledger:
    """The matrix products that one thread ran while the ledger was open, in order (`with model.count() as ledger:`).

    It can be read at any time, open or closed, from any thread.
    """

    # Until it is opened; not set for each, since counting may cost a step one part in twenty.
    _log: Sequence[Any] = ()  # the thread's log; entries from `_start` to `_stop` belong to this ledger
    _start = 0
    _stop: int | None = 0
    _others: Others | None = None  # None once closed
    _elsewhere = (0, 0)  # their products, once this ledger is closed

    _repr_mimebundle_ = mimebundle

    def __init__(self, events: Iterable[MatMul] = (), *, warns: bool = False) -> None:
        # The number of log entries converted to events, and the events.
        self._made: tuple[int, list[MatMul]] = (0, list(events))
        self._warns = warns

    def open(self, log: list[Any], others: Others) -> None:
        """Record every product appended to `log` from now on."""
        self._others, self._start, self._stop, self._log = others, len(log), None, log

    @property
    def is_open(self) -> bool:
        return self._stop is None

    def close(self) -> None:
        """Stop recording. A second call changes nothing."""
        if self._stop is None:
            self._stop = len(self._log)
        if self._others is not None:
            self._elsewhere, self._others = self._others.count(), None

    def __reduce__(self) -> Any:
        """A copy or pickle is a closed ledger with the present events."""
        return Ledger, (self._read(),), {"_elsewhere": self._count_elsewhere(), "_warns": self._warns}

    def _count_elsewhere(self) -> tuple[int, int]:
        others = self._others  # its own thread may set it to None at any moment
        return self._elsewhere if others is None else others.count()

    def _read(self) -> list[MatMul]:
        """All events so far. Safe without a lock: threads that read at the same time make equal lists."""
        done, events = self._made
        new = self._log[self._start + done : self._stop]
        if new:
            events = [*events, *(make_event(*entry) for entry in new)]
            self._made = (done + len(new), events)
        return events

    @property
    def left_out(self) -> int:
        """The number of products of this model that other threads ran while the ledger was open and that it lacks:
        those not counted by a ledger of their own thread. If this ledger is closed and empty, all products of other
        threads, since it was then probably meant to sum threads that count for themselves."""
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
        """All events so far. Warns with OtherThreadsWarning if `left_out` is not 0 (ledgers of `model.count()`
        only)."""
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

    def __repr__(self) -> str:
        events = self._read()  # not `events`, which may warn
        macs = total(events).macs
        shown = f"{macs:,}" if isinstance(macs, int) else str(macs)[:100]  # a polynomial on the backend meta
        return f"<kvsim.Ledger: {len(events):,} products, {shown} MACs>"

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
        """Multiply-accumulates of (query, key) pairs that the mask admits; outside attention, of everything."""
        return total(self.events).useful_macs

    def by(self, key: Literal["site", "layer", "kind"]) -> dict[str, Totals]:
        """Totals per site ("layers.0.scores"), layer ("layers.0", "head") or kind ("scores")."""
        if not isinstance(key, str) or key not in ("site", "layer", "kind"):
            raise UsageError("unknown key {key}: use site, layer or kind", key=shortened(key))
        groups: dict[str, list[MatMul]] = {}
        for event in self.events:
            groups.setdefault(getattr(event, key), []).append(event)
        return {name: total(events) for name, events in groups.items()}

    def _of_layer(self, layer: int, kinds: tuple[str, ...]) -> list[MatMul]:
        """The events of `kinds` in `layer`. UsageError: products ran, but none in this layer."""
        events = self.events
        if events and not any(event.layer == f"layers.{layer}" for event in events):
            raise UsageError("nothing was counted in layer {layer}: the first is 0", layer=shortened(layer))
        sites = {f"layers.{layer}.{kind}" for kind in kinds}
        return [event for event in events if event.site in sites]

    def score_cells(self, layer: int = 0) -> int:
        """The number of computed cells of QKᵀ (rows × columns), for one head of `layer`."""
        return sum(event.m * event.n for event in self._of_layer(layer, (SCORES,)))

    def useful_cells(self, layer: int = 0) -> int:
        """The number of score cells that the mask admits, for one head of `layer`."""
        return sum(event.useful_macs // (event.b * event.k) for event in self._of_layer(layer, (SCORES,)))

    def projected_rows(self, layer: int = 0) -> int:
        """Rows multiplied with the Q, K or V weight of `layer`, each of the three counted."""
        return sum(event.m for event in self._of_layer(layer, PROJECTIONS))
