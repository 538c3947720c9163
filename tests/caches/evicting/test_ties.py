"""Ties: of rows whose scores are equal to 1e-5 of their size the older stays, whatever rounding makes of the scores."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.caches.evicting.ranking import best_columns
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import ZOO, backend_of
from tests.caches.common import NAMES
from tests.caches.evicting.test_evicting import layer_of, step
from tests.caches.plain import rank_rows
from tests.cupy_on_host import sorting
from tests.models import PRIMES, make_model

OPS = make_model(PRIMES).ops
# Rotary positions on a part of a head; none in some layers; learned; ALiBi.
FAMILIES = ("gptj", "smollm3", "gpt2", "bloom")
TORCH, CUPY = pytest.param("torch", marks=pytest.mark.dev), pytest.param("cupy", marks=pytest.mark.cupy)
TEXT = [32, 41, 41, 32, 32, 41, 32, 32]


def best(count, *rankings):
    """The columns of one head, whose rows have these scores."""
    scores, *second = (np.array([row], dtype=np.float64) for row in rankings)
    return best_columns(OPS, scores, count, *second).tolist()[0]


@cache
def model_of(name, dtype="float32", backend="numpy"):
    config = ZOO[name]
    return Model(config, random_weights(config), backend=backend_of(backend), dtype=dtype)


def kept(model, spec, ids, sizes):
    """The positions that each layer keeps of the ids, fed in steps of these sizes."""
    held, start = model.new_cache(spec), 0
    for size in sizes:
        model(ids[start : start + size], held)
        start += size
    return [model.ops.backend.to_host(layer.positions).tolist() for layer in held.layers]


def every_cut(length):
    """The sizes of the steps, for every way to cut a text."""
    for cut in range(2 ** (length - 1)):
        ends = [i + 1 for i in range(length - 1) if cut >> i & 1]
        yield [stop - start for start, stop in pairwise([0, *ends, length])]


# The rule


def test_ties_are_scores_equal_to_1e_5_of_their_size():
    for size in (1e-30, 1.0, 3e30):
        assert best(1, [size, size * 1.000009]) == [0]
        assert best(1, [size, size * 1.000011]) == [1]
        assert best(1, [-size, -size * 0.999991]) == [0]
        assert best(1, [-size, -size * 0.999989]) == [1]
    assert best(1, [0.0, 1e-300]) == [1]
    assert best(2, [0.0, -0.0, 0.0]) == [0, 1]


def test_ties_are_those_with_the_last_place():
    """Being tied is not transitive; only the score in the last place decides what is tied with it."""
    scores = [1.0, 1.000008, 1.000016, 1.000024]
    assert [best(count, scores) for count in range(5)] == [[], [2], [1, 2], [0, 1, 3], [0, 1, 2, 3]]
    assert best(1, scores[::-1]) == [0]


def test_a_second_ranking_decides_ties_of_the_first():
    pooled, own = [5.0, 5.00001, 4.99999, 5.0, 7.0, 1.0], [1.0, 2.0, 3.0, 2.0, 0.0, 9.0]
    wanted = [[], [4], [2, 4], [1, 2, 4], [1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    assert [best(count, pooled, own) for count in range(7)] == wanted
    assert best(1, [1.0, 1.0, 1.0], [2.0, 2.000001, 1.0]) == [0], "then age"


def test_infinite_scores_have_a_place():
    """The squared norm of a key may overflow."""
    assert best(3, [-math.inf, 1.0, -math.inf, 0.0]) == [0, 1, 3]
    assert best(1, [1.0, math.inf, math.inf]) == [1]


@settings(max_examples=60)
@given(data=st.data(), count=st.integers(1, 7), dtype=st.sampled_from(["float32", "float64"]))
def test_rounding_decides_nothing(data, count, dtype):
    """Scores of a few sizes, rounded otherwise in every row: what plain loops keep of the scores without rounding."""
    sizes = st.lists(st.sampled_from([-2.0, 0.0, 1e-20, 0.3, 0.30001, 1.0]), min_size=8, max_size=8)
    ranks = [[data.draw(sizes) for _ in range(3)] for _ in range(data.draw(st.integers(1, 2)))]
    noise = st.integers(-3, 3).map(lambda n: 1 + n * 3e-7)
    rounded = [np.array([[x * data.draw(noise) for x in row] for row in rows], dtype=dtype) for rows in ranks]
    wanted = [rank_rows([rows[head] for rows in ranks], count) for head in range(3)]
    assert best_columns(OPS, rounded[0], count, *rounded[1:]).tolist() == wanted


# Texts that repeat tokens


def test_the_rows_of_a_head_do_not_depend_on_the_cut():
    """Of the rows of one token head 3 kept others after one step of eight tokens than after two of one and seven."""
    first = replace(ZOO["gptj"], n_layers=1, layers=ZOO["gptj"].layers[:1])
    wanted = kept(make_model(first, "float64"), "knorm:4", TEXT, [8])
    model = make_model(first, "float32")
    for sizes in every_cut(8):
        assert kept(model, "knorm:4", TEXT, sizes) == wanted, sizes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_the_dtype(name, family):
    """In all layers; under `knorm` those of the first do not depend on the cut either."""
    for budget, ids in ((4, TEXT), (3, [7] * 6)):
        firsts = []
        for sizes in ([len(ids)], [1, len(ids) - 1], [3, len(ids) - 3], [1] * len(ids)):
            wanted = kept(model_of(family, "float64"), f"{name}:{budget}", ids, sizes)
            assert kept(model_of(family), f"{name}:{budget}", ids, sizes) == wanted, sizes
            firsts.append(wanted[0])
        assert name != "knorm" or firsts == [firsts[0]] * len(firsts)


@pytest.mark.parametrize("backend", ["strict", "exact", TORCH, CUPY])
@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_the_backend(name, backend, monkeypatch):
    if backend == "cupy":
        sorting.install(monkeypatch)
    for family in ("gptj", "smollm3"):
        for sizes in ([8], [1, 7], [3, 5]):
            wanted = kept(model_of(family), f"{name}:4", TEXT, sizes)
            assert kept(model_of(family, backend=backend), f"{name}:4", TEXT, sizes) == wanted, (family, sizes)


@pytest.mark.parametrize("budget", [3, 4, 5])
def test_the_row_with_the_most_votes_stays(budget):
    """Its three neighbours on either side have the same pooled votes, and three of them are older."""
    layer = layer_of(f"snapkv:{budget}")
    for position in range(12):
        step(layer, [0], position)
    votes = np.full((2, 14), 0.01)
    votes[:, 6], votes[:, 8] = 0.5, 0.1
    step(layer, [0] * 2, 12, votes)
    assert layer.positions.tolist()[0] == {3: [6, 12, 13], 4: [6, 8, 12, 13], 5: [3, 6, 8, 12, 13]}[budget]
