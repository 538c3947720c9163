"""Prompts that take their steps together: the same ids and logits as each by itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.doctor.against_numpy import make
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import ZOO
from tests.models import PRIMES, configs, demo, make_model


@settings(max_examples=40)
@given(config=configs(), data=st.data())
def test_a_batch_is_each_prompt_by_itself(config, data):
    """Prompts of any lengths, any feed, any cache: the same ids and the same logits; one product a linear layer."""
    model = Model(config, random_weights(config, 1), backend="exact", dtype="float64")
    token = st.integers(0, config.vocab_size - 1)
    prompts = data.draw(st.lists(st.lists(token, min_size=1, max_size=7), min_size=2, max_size=4))
    feed = data.draw(st.sampled_from(["prefill", "token", "chunk:2"]))
    spec = data.draw(st.sampled_from(["dynamic", "none", "static:12"]))
    together = kvsim.generate(model, prompts, 3, cache=spec, feed=feed, keep_logits=True)
    for prompt, run in zip(prompts, together, strict=True):
        alone = kvsim.generate(model, prompt, 3, cache=spec, feed=feed, keep_logits=True)
        assert (run.ids, run.new_ids) == (alone.ids, alone.new_ids)
        assert [(s.number, s.fed, s.next) for s in run.steps] == [(s.number, s.fed, s.next) for s in alone.steps]
        for mine, other in zip(run.steps, alone.steps, strict=True):
            assert mine.logits.tobytes() == other.logits.tobytes()
        assert run.cache.seen == alone.cache.seen
    first = [event for event in together[0].steps[0].events if event.site == "layers.0.output"]
    assert len(first) == 1


def test_a_sequence_leaves_a_batch_when_it_stops():
    model = demo()
    line = kvsim.generate(model, "中华", 9).new_ids
    runs = kvsim.generate(model, ["中华", "人民"], 9, stop=line[2])
    alone = [kvsim.generate(model, prompt, 9, stop=line[2]) for prompt in ("中华", "人民")]
    assert [run.ids for run in runs] == [run.ids for run in alone]
    assert [run.text for run in runs] == [run.text for run in alone]
    assert len(runs[0].steps) < 9
    heads = [next(event.m for event in step.events if event.site == "head") for step in runs[1].steps]
    assert heads[0] == 4
    assert heads[1] == 2


def test_a_batch_refuses_what_one_prompt_would():
    with pytest.raises(UsageError, match="the text is empty"):
        kvsim.generate(demo(), ["中", ""], 3)
    with pytest.raises(UsageError, match="has a context of"):
        kvsim.generate(demo(), ["中", [5] * 2000], 3)


def test_sequences_join_when_others_leave():
    """Five prompts, two at a time: the same tokens, and no step that feeds more than two sequences."""
    model = make_model(PRIMES)
    prompts = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
    alone = [kvsim.generate(model, prompt, 4 if i % 2 else 6, stop=None) for i, prompt in enumerate(prompts)]
    runs = kvsim.generate(model, prompts, 6, at_once=2)
    for run, one in zip(runs, alone, strict=True):
        assert run.new_ids[: len(one.new_ids)] == one.new_ids
    heads = [
        sum(event.b for event in step.events if event.site == "layers.0.scores") for run in runs for step in run.steps
    ]
    assert max(heads) == 2 * PRIMES.n_heads
    waiting = kvsim.generate(model, prompts, 3, at_once=1)
    assert [len(run.ledger.events) for run in waiting] == [
        len(kvsim.generate(model, p, 3).ledger.events) for p in prompts
    ]
    for wrong in (0, True, 1.5):
        for one_or_several in (prompts, prompts[0]):
            for method in ({}, {"beams": 2}, {"draft": "ngram:2"}):
                with pytest.raises(UsageError, match="at_once must be"):
                    kvsim.generate(model, one_or_several, 2, at_once=wrong, **method)


@pytest.mark.parametrize("cache", ["dynamic", "none"])
def test_prompts_of_an_encoder_decoder_run_one_by_one(cache):
    """Each run has the events of its own encoder in its first step, and no others'."""
    name = next(name for name in ZOO if ZOO[name].encoder is not None and ZOO[name].audio is None)
    model = make(ZOO[name], "numpy", "float64")
    prompts = [[5, 6, 7], [8, 9]]
    runs = kvsim.generate(model, prompts, 4, cache=cache)
    for prompt, run in zip(prompts, runs, strict=True):
        alone = kvsim.generate(model, prompt, 4, cache=cache)
        assert run.ids == alone.ids
        assert run.steps == alone.steps
        with model.count() as encoding:
            model.encode(prompt)
        assert run.steps[0].events[: len(encoding)] == tuple(encoding.events)
        assert run.ledger.events == [event for step in run.steps for event in step.events]
