"""The record of a failed check: the same numbers as its text and its facts, and no text of its own."""

import copy
import json
import pickle

import numpy as np
import pytest

from kvsim import testing
from kvsim.i18n.language import words
from kvsim.testing.bank import BANK
from kvsim.testing.verdict.facts import to_facts
from kvsim.testing.verdict.failure import (
    AttentionFailure,
    Candidate,
    DecoderFailure,
    Diagnosis,
    LayerPlace,
    LogitPlace,
    OutputPlace,
)
from kvsim.testing.verdict.sections import render
from tests.testing.strangers.numpy_decoders import NumpyDecoder, TopLeft
from tests.testing.verdict.test_layers import shown


def step(m, ids):
    return m.forward(ids)


@pytest.fixture(scope="module")
def error():
    """A decoder whose mask is wrong from the second chunk on."""
    weights = testing.weights()
    with pytest.raises(testing.OracleError) as caught:
        testing.assert_split_invariant(lambda: shown(TopLeft)(weights), step, weights, layers=lambda m: m.layers())
    return caught.value


def test_the_record_of_a_decoder(error):
    failure = error.failure
    assert isinstance(failure, DecoderFailure)
    assert (failure.policy, failure.diagnosis.ids, failure.smallest.sizes) == ("dynamic", ("mask_top_left",), (1, 1))
    assert failure.first._replace(got=0, expected=0) == LogitPlace((3, 3, 1), 2, 0, failure.first.token, 3, 0, 0, 0)
    assert isinstance(failure.layer, LayerPlace)
    assert (failure.layer.layer, failure.layer.last, failure.layer.place.position) == (0, 1, 3)
    assert failure.command.options["heads"] == 4
    assert failure.command.same


def test_which_positions_depend_on_which(error):
    """Right: row i depends on tokens 0 to i. Wrong: a query of the second chunk sees keys from the first one on."""
    d = error.failure.dependence
    assert d.feed == (3, 3, 1)
    assert (d.expected_TT == np.tril(np.ones((7, 7), bool))).all()
    assert (d.got_TT[:3] == d.expected_TT[:3]).all()
    assert not d.got_TT[3:6].all()
    assert not (d.got_TT == d.expected_TT).all()


def test_text_and_facts_are_made_from_the_record(error):
    for language in ("en", "zh"):
        say = words(language)
        facts = to_facts(error.failure, say)
        assert facts["diagnosis"] == ["mask_top_left"]
        assert facts["smallest"] == [1, 1]
        assert facts["failing"] == [list(feed) for feed in error.failure.failing]
        assert facts["max_abs_diff"] == error.failure.difference.largest
        text = render(error.failure, say)
        assert f"{facts['max_abs_diff']:.3g}" in text
        assert BANK["mask_top_left"].sentence(language) in text
        json.dumps(facts, allow_nan=False)
    assert str(error) in (render(error.failure, words("en")), render(error.failure, words("zh")))


def test_the_record_of_an_attention_function():
    with pytest.raises(testing.OracleError) as caught:
        testing.assert_attention(lambda q, k, v: np.array(np.broadcast_to(v.mean(axis=1, keepdims=True), q.shape)))
    failure = caught.value.failure
    assert isinstance(failure, AttentionFailure)
    assert isinstance(failure.first, OutputPlace)
    assert failure.linear
    assert failure.weights.got_TS.all()
    assert not failure.weights.expected_TS.all()
    assert failure.weights.kv_heads == failure.weights.expected_kv_heads == [0, 1, 2, 3]
    assert failure.smallest == ((1, 2), 2, False)


def test_what_was_not_compared_has_a_reason_and_no_diagnosis():
    def fails(state, ids):
        raise NotImplementedError

    weights = testing.weights()
    with pytest.raises(testing.OracleError) as caught:
        testing.assert_split_invariant(lambda: NumpyDecoder(weights), fails, weights)
    failure = caught.value.failure
    assert (failure.compared, failure.unwritten, failure.named) == (False, True, None)
    assert caught.value.facts["diagnosis"] == []
    assert len(caught.value.facts["problem"]) == 1
    assert "(feed [3, 3, 1], step 1)" in render(failure, words("en"))


def test_a_diagnosis_prints_its_ids():
    candidates = tuple(Candidate(m, 1, 1, 1, 1) for m in list(BANK.values())[:5])
    assert repr(candidates[0]) == f"Candidate({candidates[0].mistake.id}, failing=1, all=1, reading=1)"
    assert repr(Diagnosis(candidates[:1], 1, 3)) == f"Diagnosis({candidates[0].mistake.id}, 1 of 3 feeds fail)"
    assert len(repr(Diagnosis(candidates, 1, 3))) <= 200


def test_the_error_can_be_copied_and_pickled():
    weights = testing.weights(heads=2, kv_heads=1, d_head=4, layers=1)
    with pytest.raises(testing.OracleError) as raised:
        testing.assert_split_invariant(lambda: [], lambda state, ids: np.zeros((len(ids), 3)), weights)
    for other in (copy.deepcopy(raised.value), pickle.loads(pickle.dumps(raised.value))):
        assert (str(other), other.facts) == (str(raised.value), raised.value.facts)
