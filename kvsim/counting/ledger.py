"""Sums over events. All exact integers; macs and flops = 2 · macs are never mixed up."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from kvsim.counting.events import PROJECTIONS, SCORES, MatMul
from kvsim.errors import UsageError


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
    for event in events:
        calls += 1
        macs += event.macs
        useful += event.useful_macs
    return Totals(calls, macs, useful)


class Ledger:
    """The products that ran while it was open, in order (`with model.count() as ledger:`)."""

    def __init__(self, events: Iterable[MatMul] = ()) -> None:
        self.events = list(events)

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
        if self.events and not any(event.layer == f"layers.{layer}" for event in self.events):
            raise UsageError("nothing was counted in layer {layer}: the first is 0", layer=layer)
        sites = {f"layers.{layer}.{kind}" for kind in kinds}
        return [event for event in self.events if event.site in sites]

    def score_cells(self, layer: int = 0) -> int:
        """Rows × columns of QKᵀ that were computed, for one head of `layer`."""
        return sum(event.m * event.n for event in self._of_layer(layer, (SCORES,)))

    def useful_cells(self, layer: int = 0) -> int:
        """Those of the score cells that the mask admits."""
        return sum(event.useful_macs // (event.b * event.k) for event in self._of_layer(layer, (SCORES,)))

    def projected_rows(self, layer: int = 0) -> int:
        """Rows that met the Q, K or V weight of `layer`, each of the three counted."""
        return sum(event.m for event in self._of_layer(layer, PROJECTIONS))
