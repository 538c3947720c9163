"""Speculative decoding: the tokens of plain generation with any drafter, and what it costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.doctor.against_numpy import make
from kvsim.errors import UsageError
from kvsim.generation import speculation
from kvsim.generation.speculation import Lookup
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs, demo, make_model


class FixedGuesses:
    """Guesses given tokens, right or wrong."""

    def __init__(self, guesses):
        self.guesses = guesses

    def guess(self, ids, count):
        return [i % 5 for i in self.guesses[len(ids) : len(ids) + count]]


@settings(max_examples=60, deadline=None)
@given(config=configs(), data=st.data())
def test_the_same_tokens_with_any_drafter(config, data):
    model = Model(config, random_weights(config, data.draw(st.integers(0, 3))), dtype="float64")
    prompt = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=6))
    n, size = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 6))
    options = {
        "cache": data.draw(st.sampled_from(["dynamic", "static:32", "none"])),
        "feed": data.draw(st.sampled_from(["prefill", "token", "chunk:2"])),
        "stop": data.draw(st.sampled_from([None, 3])),
        "temperature": data.draw(st.sampled_from([0.0, 1.0])),
        "seed": data.draw(st.integers(0, 3)),
    }
    plain = kvsim.generate(model, prompt, n, **options)
    who = data.draw(st.sampled_from(["ngram:1", "ngram:3", "itself", "another", "fixed"]))
    other = Model(config, random_weights(config, 9), dtype="float64")
    draft = {"itself": model, "another": other}.get(who, who if who.startswith("ngram") else "ngram:2")
    with pytest.MonkeyPatch.context() as patch:
        if who == "fixed":
            guesses = data.draw(st.lists(st.integers(0, 4), min_size=40, max_size=40))
            patch.setattr(speculation, "make_drafter", lambda *_: FixedGuesses(guesses))
        run = kvsim.generate(model, prompt, n, draft=draft, draft_tokens=size, **options)
    assert run.new_ids == plain.new_ids
    assert run.ids == plain.ids
    assert 0 <= run.accepted <= run.drafted
    assert len(run.steps) <= len(plain.steps)
    assert run.cache.seen in (0, len(run.ids) - 1)
    if who == "itself" and options["stop"] is None:
        assert run.accepted == run.drafted


def test_fewer_steps_and_their_costs():
    """The demo model as its own drafter: 12 tokens in 1 + ceil(11 / 5) steps of up to five tokens."""
    plain = kvsim.generate(demo(), "中华人民", 12)
    run = kvsim.generate(demo(), "中华人民", 12, draft=demo(), draft_tokens=4)
    assert run.text == plain.text
    assert [len(step.fed) for step in run.steps] == [4, 5, 5, 1]
    assert (run.drafted, run.accepted) == (8, 8)
    assert run.steps[-1].next == run.ids[-1]
    assert [event.m for event in run.steps[1].events if event.site == "layers.0.query"] == [5]


def test_rejected_guesses_leave_the_cache():
    model = make_model(PRIMES)
    plain = kvsim.generate(model, [1, 2, 3], 8, keep_logits=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speculation, "make_drafter", lambda *_: FixedGuesses([4] * 99))
        run = kvsim.generate(model, [1, 2, 3], 8, draft="ngram:1", draft_tokens=3, keep_logits=True)
    assert run.new_ids == plain.new_ids
    assert run.cache.ids == run.ids[:-1]
    assert run.drafted > run.accepted
    last = {len(run.ids): step.logits for step in run.steps[-1:]}
    assert abs(last[len(run.ids)] - plain.steps[-1].logits).max() <= 1e-12 * abs(plain.steps[-1].logits).max()


def test_lookup_continues_the_last_earlier_occurrence():
    assert Lookup(2).guess([1, 2, 3, 9, 1, 2], 3) == [3, 9, 1]
    assert Lookup(2).guess([1, 2, 3, 1, 2, 4, 1, 2], 1) == [4]
    assert Lookup(3).guess([7, 2, 3, 1, 2], 2) == [3, 1]
    assert Lookup(3).guess([1, 2, 3], 4) == []
    assert Lookup(1).guess([1], 4) == []


def test_speculation_for_an_encoder_decoder():
    name = next(name for name in ZOO if ZOO[name].encoder is not None and ZOO[name].audio is None)
    model = make(ZOO[name], "numpy", "float64")
    plain = kvsim.generate(model, [5, 6, 7], 8)
    assert kvsim.generate(model, [5, 6, 7], 8, draft="ngram:2").new_ids == plain.new_ids


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"draft": "ngram:0"}, "draft must be"),
        ({"draft": "ngram"}, "draft must be"),
        ({"draft": 3}, "draft must be"),
        ({"draft": "ngram:2", "draft_tokens": 0}, "draft_tokens must be"),
        ({"draft": "ngram:2", "cache": "window:4"}, "lossy cache window:4 does not support"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(UsageError, match=said):
        kvsim.generate(make_model(PRIMES), [1], 2, **options)
    with pytest.raises(UsageError, match="with the vocabulary of model, 101 tokens"):
        kvsim.generate(make_model(PRIMES), [1], 2, draft=demo())
