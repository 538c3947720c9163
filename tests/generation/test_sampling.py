"""The choice of the next token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvsim
from kvsim.errors import KvsimError, UsageError
from kvsim.generation.sampling import Sampler
from tests.models import PRIMES, demo, make_model

OPS = make_model(PRIMES).ops


def draw_many(sampler, logits, count=4000):
    drawn = [sampler.choose(OPS, logits, position) for position in range(count)]
    return np.bincount(drawn, minlength=len(logits)) / count


def test_greedy_takes_the_first_of_a_tie():
    assert Sampler().choose(OPS, np.array([1.0, 3.0, 3.0]), 0) == 1


def test_draws_follow_the_softmax():
    logits = np.array([0.0, 1.0, 2.0, -1.0])
    expected = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    # Four standard deviations of 4000 draws.
    assert np.abs(draw_many(Sampler(0.7), logits) - expected).max() < 4 * 0.5 / np.sqrt(4000)


def test_top_k_and_top_p_cut_the_tail():
    logits = np.log(np.array([0.5, 0.2, 0.15, 0.1, 0.05]))
    assert set(np.flatnonzero(draw_many(Sampler(1.0, top_k=2), logits))) == {0, 1}
    assert set(np.flatnonzero(draw_many(Sampler(1.0, top_p=0.8), logits))) == {0, 1, 2}
    assert set(np.flatnonzero(draw_many(Sampler(1.0, top_p=1e-9), logits))) == {0}
    assert set(np.flatnonzero(draw_many(Sampler(1.0, top_k=3, top_p=0.6), logits))) == {0, 1}
    assert set(np.flatnonzero(draw_many(Sampler(1.0, top_k=9, top_p=1.0), logits))) == {0, 1, 2, 3, 4}


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 99))
def test_top_1_is_greedy_and_top_k_stays_inside(logits, k, seed):
    x = np.array(logits)
    assert Sampler(2.0, top_k=1, seed=seed).choose(OPS, x, seed) == Sampler().choose(OPS, x, seed)
    chosen = Sampler(2.0, top_k=k, seed=seed).choose(OPS, x, seed)
    assert (x > x[chosen]).sum() < k


def test_a_draw_does_not_depend_on_feed_or_cache():
    """Same seed, same text: a draw depends only on the position."""
    options = {"temperature": 1.5, "seed": 7}
    runs = [
        kvsim.generate(demo("float64"), "人工智能", 30, feed=feed, cache=cache, **options).ids
        for feed in ("token", "prefill", "chunk:3")
        for cache in ("none", "dynamic", "static:99")
    ]
    assert all(ids == runs[0] for ids in runs)
    assert kvsim.generate(demo("float64"), "人工智能", 30, temperature=1.5, seed=8).ids != runs[0]


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(1.0)])
def test_nan_is_never_chosen(sampler):
    with pytest.raises(KvsimError, match="the logits hold NaN"):
        sampler.choose(OPS, np.array([0.0, np.nan]), 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": float("inf")}, "temperature must be 0"),
        ({"temperature": 1.0, "top_k": 0}, "top-k must be a whole number of at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, "top-p must be above 0"),
        ({"temperature": 1.0, "top_p": 1.1}, "top-p must be above 0"),
        ({"temperature": 1.0, "seed": -1}, "seed must be a whole number of at least 0"),
        ({"top_k": 3}, "need a temperature above 0"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(UsageError) as caught:
        Sampler(**options)
    assert said in str(caught.value)
