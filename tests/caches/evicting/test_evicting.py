"""`h2o:B`, `snapkv:B`, `knorm:B`: the rows kept, their positions, and the logits of the tokens after them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kvsim.caches.evicting.base import EvictingLayer
from kvsim.caches.evicting.ranking import best_columns
from kvsim.caches.evicting.snapkv import max_pooled
from kvsim.caches.specs import parse_spec
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.spans import Span
from kvsim.transformer.rotary import depends_on_length
from tests.arrays.runs import ZOO
from tests.caches.common import NAMES, TURNING, assert_close, random_ids
from tests.caches.evicting.lists import ListLayer
from tests.caches.plain import POLICIES, NearTieError, Plain
from tests.models import PRIMES, configs, cuts, make_model
from tests.transformer.test_split_invariance import feed

# Specs and refusals


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_prints_back(name):
    spec = f"{name}:6"
    assert str(parse_spec(spec)) == spec == make_model(PRIMES).new_cache(spec).spec
    assert not make_model(PRIMES).new_cache(spec).lossless


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("h2o", "the cache h2o needs its size in tokens, at least 1, as in h2o:256"),
        ("h2o:1", "the cache h2o needs a budget of at least 2 rows, as in h2o:256, not h2o:1"),
        ("snapkv:0", "as in snapkv:256, not 'snapkv:0'"),
        ("knorm:2+2", "needs its size in tokens"),
        (
            "h2o:65",
            "the budget of the cache h2o:65 exceeds the model's context of 64 tokens, so no row would ever be evicted",
        ),
        ("snapkv:65", "exceeds the model's context"),
        ("knorm:65", "exceeds the model's context"),
    ],
)
def test_a_wrong_spec_is_refused(spec, said):
    with pytest.raises(UsageError) as caught:
        make_model(PRIMES).new_cache(spec)
    assert said in str(caught.value)
    assert make_model(PRIMES).new_cache("h2o:64").layers[0].budget == 64


@pytest.mark.parametrize("name", NAMES)
def test_buckets_are_refused(name):
    with pytest.raises(UsageError, match="need the same positions in every head: use dynamic or window:6"):
        make(ZOO["t5"], "numpy", "float64").new_cache(f"{name}:6")


def test_norms_of_latents_are_refused():
    model = make(ZOO["deepseek_v2"], "numpy", "float64")
    with pytest.raises(UsageError, match="this model caches normalised latents"):
        model.new_cache("knorm:6")
    assert model.new_cache("h2o:6").layers[0].shape.n_heads == 1


# Against plain loops: another transformer, another cache


def assert_as_in_plain_loops(config, seed, name, budget, sizes):
    """Logits, positions kept, and counted pairs equal those of the plain transformer."""
    model = make_model(config, "float64", seed)
    ids = random_ids(config, sum(sizes), seed)
    wanted, held, pairs = Plain(model).run_evicting(ids, sizes, POLICIES[name], budget)
    cache = model.new_cache(f"{name}:{budget}")
    with model.count() as ledger:
        assert_close(feed(model, cache, ids, sizes), wanted)
    for i, (layer, heads) in enumerate(zip(cache.layers, held, strict=True)):
        assert layer.positions.tolist() == [[row.position for row in rows] for rows in heads]
        for g, rows in enumerate(heads):
            assert np.allclose(layer.keys[g], [row.key for row in rows], rtol=1e-11, atol=1e-11)
            assert np.allclose(layer.values[g], [row.value for row in rows], rtol=1e-11, atol=1e-11)
        assert ledger.useful_cells(i) == pairs[i]
        if name == "h2o":
            assert np.allclose(layer._scores, [[row.score for row in rows] for rows in heads], rtol=1e-11, atol=0)
    return cache


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("budget", [2, 5, 8])
@pytest.mark.parametrize("sizes", [[1] * 14, [14], [6, 1, 1, 5, 1], [3, 8, 2, 1]], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_against_plain_loops(name, sizes, budget, seed):
    assert_as_in_plain_loops(TURNING if seed else PRIMES, seed, name, budget, sizes)


@pytest.mark.parametrize("sizes", [[45, 1, 1], [20, 27], [2, 45, 2], [39, 1, 1, 3]], ids=str)
def test_the_observation_window_is_at_most_32_and_at_most_the_step(sizes):
    """With a budget above 32, the last 32 queries of a long step vote, and all queries of a short one."""
    cache = assert_as_in_plain_loops(TURNING, 3, "snapkv", 40, sizes)
    assert cache.layers[0].metadata_bytes == 40 * 3 * 8
    held = cache.layers[0].positions.tolist()
    assert all(row != row_of_the_last(40, sizes) for row in held)


def row_of_the_last(budget, sizes):
    """The rows kept by a policy that evicts the oldest at each step of more than one token."""
    kept = []
    for stop, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
        kept += range(stop - size, stop)
        kept = kept if size == 1 else kept[-budget:]
    return kept


def test_heads_keep_rows_of_their_own():
    """Otherwise a policy that uses one list for all heads would pass."""
    for name in NAMES:
        layer = assert_as_in_plain_loops(TURNING, 1, name, 16, [4] * 8).layers[0]
        assert len({tuple(row) for row in layer.positions.tolist()}) > 1


@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(config=configs(), seed=st.integers(0, 5), data=st.data(), name=st.sampled_from(NAMES), budget=st.integers(2, 7))
def test_any_model_keeps_what_lists_of_rows_keep(config, seed, data, name, budget):
    if config.latent is not None and name == "knorm":
        config = replace(config, latent=replace(config.latent, form="cached_expanded"))
    model = make_model(config, "float64", seed)
    length = data.draw(st.integers(budget + 1, 16))
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=length, max_size=length))
    sizes = data.draw(cuts(length))
    cache, lists = model.new_cache(f"{name}:{budget}"), model.new_cache(f"{name}:{budget}")
    lists.layers = [
        ListLayer(layer, POLICIES[name], budget) if isinstance(layer, EvictingLayer) else layer
        for layer in lists.layers
    ]
    try:
        wanted = feed(model, lists, ids, sizes)
    except NearTieError:
        assume(False)
    assert_close(feed(model, cache, ids, sizes), wanted)
    for layer, other in zip(cache.layers, lists.layers, strict=True):
        if isinstance(other, ListLayer):
            assert layer.positions.tolist() == [[row.position for row in rows] for rows in other.held]
            assert np.allclose(layer.keys, other.keys, rtol=1e-12, atol=1e-12)
            assert np.allclose(layer.values, other.values, rtol=1e-12, atol=1e-12)


def scores_of(model, cache, ids, **source):
    with model.watch("layers.0.masked") as seen:
        model(ids, cache, **source)
    return seen["layers.0.masked"]


def by_length(config):
    return any(kind.rope and depends_on_length(kind.rope) for kind in config.layers)


@pytest.mark.parametrize("name", ["h2o", "snapkv"])
@pytest.mark.parametrize("model", [n for n, c in ZOO.items() if not (c.buckets or by_length(c))])
def test_scores_of_every_family_are_those_of_the_rows_that_are_left(model, name):
    """In a model of one layer keys depend on the tokens only, so scores do not depend on earlier evictions: rotary and
    learned positions, ALiBi (by the distance of the true positions), latents; a later chunk with its mask."""
    config = replace(ZOO[model], n_layers=1, layers=(replace(ZOO[model].layers[0], window=None),))
    model, source = make(config, "numpy", "float64"), source_of(config)
    whole = scores_of(model, model.new_cache("none"), IDS, **source)  # [., ., T, S]
    cache, start = model.new_cache(f"{name}:4"), 0
    for size in (6, 1, 4, 1):
        layer, stop = cache.layers[0], start + size
        columns = [[*rows, *range(start, stop)] for rows in layer.positions.tolist()]
        got = scores_of(model, cache, IDS[start:stop], **source)
        for g in range(whole.shape[0]):
            mine = columns[g if len(columns) > 1 else 0]
            wanted = whole[g][:, start:stop, :][:, :, mine]
            hidden = wanted == -math.inf
            assert np.array_equal(got[g] == -math.inf, hidden)
            assert np.abs(got[g][~hidden] - wanted[~hidden]).max() <= 1e-12 * np.abs(whole[whole > -math.inf]).max()
        start = stop
    assert layer.since == (12 if name == "h2o" else 11)


# By hand


def layer_of(spec, n_heads=1, n_kv_heads=1):
    config = replace(PRIMES, n_layers=1, n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=1)
    config = replace(config, layers=(replace(config.layers[0], rope=None),))
    return make_model(config).new_cache(spec).layers[0]


def step(layer, keys, start, probs=None):
    """One step of one head with the given keys and attention probabilities [T, S]."""
    pos = Span(start, start + len(keys))
    rows = np.array(keys, dtype=np.float64).reshape(1, -1, 1)
    (view,) = layer.update(rows, -rows, pos, lambda k, v, _: (k, v))
    if probs is not None:
        view.observe(None, np.array(probs, dtype=np.float64)[None, None])
    layer.commit(pos)
    return view


def test_heavy_hitters_by_hand():
    layer = layer_of("h2o:3")
    step(layer, [10, 11], 0, [[1, 0], [0.25, 0.75]])  # scores 1.25, 0.75
    step(layer, [12], 2, [[0.1, 0.7, 0.2]])  # 1.35, 1.45, 0.2: three rows, all stay
    assert layer.positions.tolist() == [[0, 1, 2]]
    assert layer.metadata_bytes == 3 * 8
    view = step(layer, [13], 3, [[0.0, 0.0, 0.4, 0.6]])  # of 1.35 and 1.45 the second; the newest two stay
    assert view.key_pos == Span(0, 4)
    assert layer.positions.tolist() == [[1, 2, 3]]
    assert layer._scores[0].tolist() == pytest.approx([1.45, 0.6, 0.6])
    view = step(layer, [14], 4, [[0.1, 0.9, 0.0, 0.0]])  # 1.55 and 1.5: the first, though it is the oldest
    assert view.key_pos.old.tolist() == [[1, 2, 3]]
    assert view.key_pos.new == Span(4, 5)
    assert layer.positions.tolist() == [[1, 3, 4]]
    assert layer.keys.tolist() == [[[11], [13], [14]]]
    assert layer.metadata_bytes == 3 * 8 + 3 * 8


def test_of_equal_scores_the_older_stays():
    layer = layer_of("h2o:4")
    step(layer, [0, 1, 2, 3, 4, 5], 0, [[1 / 6] * 6] * 6)
    assert layer.positions.tolist() == [[0, 1, 4, 5]]
    layer = layer_of("knorm:3")
    step(layer, [2, -1, 1, 2, 1, 5], 0)
    assert layer.positions.tolist() == [[1, 2, 5]]
    layer = layer_of("snapkv:4")
    step(layer, [0] * 6, 0, [[1 / 6] * 6] * 6)
    assert layer.positions.tolist() == [[2, 3, 4, 5]]
    layer = layer_of("snapkv:4")
    step(layer, [0] * 6, 0, [[1 / 6] * 6] * 6)
    step(layer, [0] * 2, 6, [[1 / 6] * 6] * 2)
    assert layer.positions.tolist() == [[2, 3, 6, 7]]


def test_short_keys_by_hand():
    """-1 has a smaller norm than 2; the newest is kept whatever its norm."""
    layer = layer_of("knorm:2")
    for position, key in enumerate([3, 2, -1, 9, 0.5]):
        step(layer, [key], position)
    assert layer.positions.tolist() == [[2, 4]]
    step(layer, [7, 8], 5)
    assert layer.positions.tolist() == [[4, 6]]
    layer = layer_of("knorm:1")
    step(layer, [1, 2, 3], 0)
    assert layer.positions.tolist() == [[2]]


def test_votes_by_hand():
    """A window of two, attending to one of nine rows before it: that row and its three neighbours on either side."""
    layer = layer_of("snapkv:9")
    step(layer, range(10), 0, np.full((10, 10), 0.1))  # w = 9: the last nine, no votes
    assert layer.positions.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    votes = np.zeros((2, 11))
    votes[:, 4] = 1.0  # position 5: 2, 3, 4 and 6, 7, 8 are as good; 1 and 9 are not
    view = step(layer, [10, 11], 10, votes)
    assert view.key_pos.old.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert layer.positions.tolist() == [[2, 3, 4, 5, 6, 7, 8, 10, 11]]
    view = step(layer, [12], 12)  # one token: no votes, nothing evicted
    assert view.observer is None
    assert view.key_pos.new == Span(12, 13)
    view = step(layer, [13], 13)
    assert view.key_pos.new == Span(12, 14)
    assert layer.positions.tolist() == [[2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13]]


def test_pooling_at_the_edges():
    ops = make_model(PRIMES).ops
    votes = np.array([[5.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 3]])
    assert max_pooled(ops, votes)[0].tolist() == [5, 5, 5, 5, 1, 1, 1, 3, 3, 3, 3]
    assert max_pooled(ops, votes[:, :2])[0].tolist() == [5, 5]
    assert max_pooled(ops, votes[:, :0]).shape == (1, 0)


def test_the_best_columns():
    ops = make_model(PRIMES).ops
    scores = np.array([[0.5, 0.25, 0.5, 0.5, 0.75], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert best_columns(ops, scores, 3).tolist() == [[0, 2, 4], [0, 1, 2]]
    assert best_columns(ops, scores, 0).shape == (2, 0)


@pytest.mark.parametrize("sizes", [[14], [1] * 14, [5, 6, 3]], ids=str)
def test_of_the_rows_of_one_token_the_older_stay(sizes):
    """Their keys in the first layer are equal, apart from their rotation."""
    model = Model(TURNING, random_weights(TURNING), backend="exact", dtype="float64")
    cache = model.new_cache("knorm:4")
    feed(model, cache, [7] * 14, sizes)
    assert cache.layers[0].positions.tolist() == [[0, 1, 2, 13]] * 3
