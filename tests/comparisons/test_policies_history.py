"""The history of `kvsim.compare`: which rows each cache held after every step."""

import pytest

import kvsim
from kvsim.caches.base import layer_shape
from kvsim.caches.dynamic import DynamicLayer
from kvsim.comparisons import policies
from kvsim.comparisons.counts import Counts
from tests.models import PRIMES, demo, make_model

IDS = [3, 14, 15, 92, 65, 35, 89, 79]
SPECS = ["none", "static:20", "paged:4", "window:4", "sinks:2+3", "h2o:4", "knorm:4", "snapkv:4", "offload:h2o:4"]


def held_after(history, step, stop):
    """The positions held after a step, of each layer and head."""
    return [
        [{p for p in range(stop) if not 0 < row[p] <= step} for row in layer] for layer in history.evicted
    ]  # fmt: skip


@pytest.mark.parametrize("feed", ["prefill", "token", "chunk:3"])
def test_rows_held_are_those_of_the_caches(feed):
    model = make_model(PRIMES, "float32")
    found = kvsim.compare(IDS, model, SPECS, 6, feed, history=True)
    ids = [*IDS, *(piece.id for piece in found.new)]
    row = layer_shape(model.config).row_bytes(model.ops) // layer_shape(model.config).n_heads
    for run in (found.reference, *found.runs):
        cache = model.new_cache(run.cache)
        for number, stop in enumerate(found.stops, start=1):
            model(ids[cache.seen : stop], cache)
            step, held = run.history.steps[number - 1], held_after(run.history, number, stop)
            assert step[1:] == (cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes)
            assert sum(len(rows) for layer in held for rows in layer) * row == step.logical_bytes  # as many as counted
            for rows, layer in zip(held, cache.layers, strict=True):
                inner = getattr(layer, "layer", layer)
                if hasattr(inner, "positions"):
                    assert rows == [set(positions) for positions in inner.positions.tolist()]
        assert run.counts == Counts.sum(step.counts for step in run.history.steps)


def test_rows_of_windows_and_sinks_by_hand():
    found = kvsim.compare(IDS, make_model(PRIMES, "float32"), ["window:4", "sinks:2+3", "none"], 2, history=True)
    window, sinks, none = (held_after(run.history, 1, 8) for run in found.runs)
    assert window == [[{5, 6, 7}] * len(layer) for layer in window]
    assert sinks == [[{0, 1, 6, 7}] * len(layer) for layer in sinks]
    assert none == [[set()] * len(layer) for layer in none]
    assert found.stops == (8, 9)


def test_without_history_nothing_is_recorded():
    found = kvsim.compare("中华", demo(), ["h2o:2"], 2)
    assert found.runs[0].history is None
    assert found.choices == ()
    with_history = kvsim.compare("中华", demo(), ["h2o:2"], 2, history=True)
    assert with_history.to_dict() == found.to_dict()
    chosen = {row.choice for run in with_history.runs for row in run.rows} | {piece.id for piece in found.new}
    assert {piece.id for piece in with_history.choices} == chosen


def test_what_is_left_out_is_said(monkeypatch):
    class Quiet(DynamicLayer):
        held_positions = None

    class Returning(DynamicLayer):
        @property
        def held_positions(self):
            return () if self.rows == 3 else super().held_positions

    from kvsim.caches.specs import POLICIES

    for policy in (Quiet, Returning):
        monkeypatch.setitem(POLICIES, "other", policy)
        history = kvsim.compare("中华", demo(), ["other"], 4, history=True).runs[0].history
        assert (history.evicted, history.left_out, len(history.steps)) == (None, "untold", 4)
    monkeypatch.setattr(policies, "MAX_ROWS", 31)
    found = kvsim.compare("中华", demo(), ["window:2"], 3, history=True)
    assert {run.history.left_out for run in (found.reference, *found.runs)} == {"rows"}
    assert len(found.runs[0].history.steps) == 3
