"""The model's input checks, ownership of logits, watching, and repr."""

from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.models import GPT2_LIKE, PRIMES, demo, make_model


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no token ids"),
        ([101], "token id 101 is outside the vocabulary of model: ids go from 0 to 100"),
        ([-1], "token id -1 is outside"),
        ([1.5], "token ids are integers"),
        (["a"], "token ids are integers"),
        ("abc", "expected token ids, got text"),
    ],
)
def test_wrong_ids(ids, message):
    with pytest.raises(UsageError) as caught:
        make_model(PRIMES)(ids)
    assert message in str(caught.value)


def test_ids_may_be_any_integers():
    model = make_model(PRIMES)
    assert np.array_equal(model(np.array([1, 2], dtype=np.int32)), model((1, 2)))


def test_unknown_logits():
    with pytest.raises(UsageError, match="use all or last"):
        make_model(PRIMES)([1], logits="first")


def test_an_empty_batch_is_empty():
    assert make_model(PRIMES).batch([]) == []


def test_learned_positions_end_with_the_context():
    model = make_model(GPT2_LIKE)
    cache = model.new_cache()
    model([1] * 64, cache)
    with pytest.raises(UsageError, match="context of 64 tokens, asked for 65"):
        model([1], cache)


def test_returned_logits_are_never_overwritten():
    """Operations work in place on arrays that the transformer does not read again, never on returned ones."""
    model = demo()
    cache = model.new_cache()
    first = model([5], cache)
    kept = first.copy()
    second = model([6], cache)
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_watch_matches_patterns_and_keeps_the_history():
    model = make_model(PRIMES)
    with model.watch("layers.*.probs", "final") as seen:
        model([1, 2, 3])
        model.batch([([1], None), ([1, 2], None)])
    model([1])
    assert set(seen) == {"layers.0.probs", "layers.1.probs", "final"}
    assert [x.shape for x in seen.history["layers.1.probs"]] == [(3, 2, 3, 3), (3, 2, 1, 1), (3, 2, 2, 2)]
    assert np.abs(seen["layers.0.probs"].sum(axis=-1) - 1).max() < 1e-15
    with pytest.raises(KeyError, match=r"nothing was seen at 'layers\.9\.probs'"):
        seen["layers.9.probs"]


def test_the_tied_head_is_one_array():
    for dtype in ("float32", "float64", "float16"):
        model = demo(dtype)
        assert model.weights.head.weight is model.weights.tokens


def test_repr():
    assert repr(demo()) == "<kvsim.Model demo: llama, float32 on numpy>"


def test_float16_runs_and_stays_float16():
    logits = kvsim.load("demo", dtype="float16")(demo().tokenizer.encode("中华人民"))
    assert logits.dtype == np.float16
    reference = demo("float64")(demo().tokenizer.encode("中华人民"))
    assert np.abs(logits - reference).max() <= 40 * np.finfo(np.float16).eps * np.abs(reference).max()


def test_array_shapes_are_checked_against_the_config():
    weights = random_weights(PRIMES)
    wrong = replace(weights, tokens=weights.tokens[:, :-1])
    with pytest.raises(UsageError, match=r"the array tokens has shape \(101, 12\), the config asks for \(101, 13\)"):
        Model(PRIMES, wrong)
    with pytest.raises(UsageError, match=r"the array layers\.1\.attention_norm\.gain has shape None"):
        Model(PRIMES, replace(weights, layers=weights.layers[:1]))


class BrokenStepError(Exception):
    """Raised in the middle of a step."""


def test_a_failed_first_step_leaves_no_source(monkeypatch):
    """The cache accepts a source when its first step is complete: a failed one leaves it empty, also half-way."""
    from tests.arrays.runs import ZOO

    config = next(config for name, config in ZOO.items() if name.startswith("t5"))
    model = Model(config, random_weights(config), dtype="float64")
    expected = model([1, 2], encoder_ids=[3, 4, 5])
    cache = model.new_cache()
    with pytest.raises(UsageError, match="no token ids"):
        model([], cache, encoder_ids=[5, 6, 7])
    products, matmul = [], model.ops.matmul

    def fails_at_the_end(kind, *rest):
        products.append(kind)
        if kind == "head":
            raise BrokenStepError
        return matmul(kind, *rest)

    monkeypatch.setattr(model.ops, "matmul", fails_at_the_end)
    with pytest.raises(BrokenStepError):
        model([1], cache, encoder_ids=[5, 6, 7])
    assert "cross_key" in products
    monkeypatch.undo()
    assert cache.source is None
    first = model([1], cache, encoder_ids=[3, 4, 5])
    second = model([2], cache)
    assert np.array_equal(np.concatenate([first, second]).argmax(axis=-1), expected.argmax(axis=-1))
    assert abs(np.concatenate([first, second]) - expected).max() < 1e-12 * abs(expected).max()
