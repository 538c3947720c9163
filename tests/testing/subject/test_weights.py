"""Weights for decoders under test: sizes that are refused, numbers as ints, and a repr of one line."""

import copy
import pickle

import numpy as np
import pytest

from kvsim import testing
from kvsim.errors import UsageError
from kvsim.testing.subject.weights import ModelWeights, Sizes, make_weights


@pytest.mark.parametrize("sizes", [{"heads": 4, "kv_heads": 3}, {"d_head": 3}, {"layers": 0}, {"window": 0}])
def test_sizes_that_do_not_fit_together(sizes):
    with pytest.raises(UsageError, match="at least 1"):
        testing.weights(**sizes)
    with pytest.raises(UsageError, match="unknown rope 'spiral'"):
        testing.weights(rope="spiral")


@pytest.mark.parametrize("sizes", [
    {}, {"window": 4, "seed": 12345, "dtype": "float8_e4m3fn"}, {"layers": 12, "context": 2**17, "rope": "learned"},
])  # fmt: skip
def test_the_repr_is_one_line_without_numbers_of_the_arrays(sizes):
    weights = make_weights(**sizes)
    text = repr(weights)
    assert text.startswith(f"ModelWeights({len(weights)} arrays, {weights.dtype}, seed={weights.seed}, Sizes(layers=")
    assert len(text) <= 200
    assert "\n" not in text
    assert "array(" not in text
    assert len(repr(weights.config)) <= 200


@pytest.mark.parametrize("size", ["layers", "heads", "d_head", "d_model", "d_ff", "vocab"])
def test_more_weights_than_a_check_computes_with_are_refused(size):
    with pytest.raises(UsageError, match=r"these sizes need .* a check computes with up to 67108864"):
        testing.weights(**{size: 10**9, "kv_heads": 1})


def test_a_repr_that_would_be_longer_is_cut():
    weights = ModelWeights(Sizes(rope="learned", vocab=10**30, context=10**30), {}, "float8_e4m3fn")
    assert repr(weights).startswith("ModelWeights(0 arrays, float8_e4m3fn, Sizes(layers=2, ")
    assert len(repr(weights)) == 200
    assert repr(weights).endswith("...)")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_weights_can_be_copied_and_pickled(duplicate):
    weights = make_weights(window=4, dtype="float32", seed=3)
    other = duplicate(weights)
    assert isinstance(other, ModelWeights)
    assert (other.config, other.dtype, other.seed) == (weights.config, weights.dtype, weights.seed)
    assert all(np.array_equal(other[name], array) for name, array in weights.items())


def test_sizes_are_python_ints():
    """Whatever integers they are given as, so that they can be written to JSON."""
    config = make_weights(heads=np.int64(6), kv_heads=np.int32(3)).config
    assert type(config.heads) is type(config.kv_heads) is int
    assert config == Sizes(heads=6, kv_heads=3)
