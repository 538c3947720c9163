"""The cells of a step equal the counts of the products that ran, under windows and latent attention too."""

from dataclasses import replace

import pytest

import kvsim
from kvsim.comparisons.cells import CACHED, COMPUTED, MASKED, NEW_KEY, NEW_VALUE, count_read, find_cells
from kvsim.loading.random_weights import random_weights
from kvsim.loading.small_models import read_small_models
from kvsim.model import Model
from tests.models import demo


def small(name, form=None):
    config = read_small_models()[name]
    if form is not None:
        config = replace(config, latent=replace(config.latent, form=form))
    return Model(config, random_weights(config, 0), backend="numpy", dtype="float64")


def sides(trace):
    for step in trace.steps:
        for side in (step.no_cache, step.cached):
            yield step, side, find_cells(trace, step, side)


@pytest.mark.parametrize("cache", ["dynamic", "static:64", "paged:4"])
@pytest.mark.parametrize("feed", ["token", "chunk:3", "prefill"])
@pytest.mark.parametrize("name", ["mistral", "gemma2", "gpt2"])
def test_cells_equal_the_counts(name, feed, cache):
    trace = kvsim.trace([1, 2, 3, 4, 5, 6, 7], small(name), 4, feed, cache=cache)
    for step, side, cells in sides(trace):
        counts, drawn = side.counts, "".join(cells.scores)
        assert drawn.count(COMPUTED) == counts.useful_cells
        assert drawn.count(COMPUTED) + drawn.count(MASKED) == counts.score_cells == cells.size[0] * cells.size[1]
        rows = len(cells.scores) + cells.keys.count(NEW_KEY) + cells.values.count(NEW_VALUE)
        assert rows == counts.projected_rows
        assert {len(row) for row in (*cells.scores, cells.keys, cells.values)} == {count_read(trace, step)}
        assert cells.keys.replace(NEW_KEY, NEW_VALUE) == cells.values


def test_the_tutorial():
    trace = kvsim.trace("中华人民", demo())
    found = [cells for _, _, cells in sides(trace)]
    assert sum("".join(cells.scores).count(MASKED) for cells in found[:14:2]) == 140 - 84
    assert found[12].scores[3:5] == ("####xxx", "#####xx")
    assert found[13] == (("#######",), "ccccccK", "ccccccV", (1, 7))
    assert sum(cells.keys.count(CACHED) + cells.values.count(CACHED) for cells in found) == 2 * 21


@pytest.mark.parametrize(("form", "keys"), [("reexpanded", "KKKK"), ("absorbed", "cccK"), ("cached_expanded", "cccK")])
def test_latent_attention_expands_its_rows_or_keeps_them(form, keys):
    trace = kvsim.trace([1, 2, 3], small("deepseek_v3", form), 2)
    cells = find_cells(trace, trace.steps[-1], trace.steps[-1].cached)
    assert (cells.scores, cells.keys, cells.values) == (("####",), keys, keys.replace("K", "V"))


def test_layers_have_their_own_windows():
    """gemma2: windows of 4 in every other layer."""
    trace = kvsim.trace([1, 2, 3, 4, 5, 6], small("gemma2"), 1)
    last = trace.steps[-1]
    near, far = (find_cells(trace, last, last.cached, layer) for layer in (0, 1))
    assert near == (("  ####",), "  cccK", "  cccV", (1, 4))
    assert far == (("######",), "cccccK", "cccccV", (1, 6))
