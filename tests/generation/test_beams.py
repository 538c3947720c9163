"""Beam search, against its definition without a cache and against exhaustive search."""

import itertools
import math
from dataclasses import replace

import numpy as np
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


def log_probs(model, ids):
    row = np.asarray(model(ids)[-1], np.float64)
    return [float(x) - math.log(sum(math.exp(float(y) - row.max()) for y in row)) - row.max() for x in row]


def by_definition(model, prompt, n, width, stop=None):
    """Texts and scores, best first, in plain Python; every step computed again from the start."""
    beams, finished = [([], 0.0)], []
    for _ in range(n):
        every = []
        for place, (text, score) in enumerate(beams):
            every += [(-(score + p), place, i) for i, p in enumerate(log_probs(model, [*prompt, *text]))]
        best = sorted(every)[: width - len(finished)]
        going = [([*beams[place][0], i], -minus) for minus, place, i in best]
        finished += [beam for beam in going if beam[0][-1] == stop]
        beams = [beam for beam in going if beam[0][-1] != stop]
        if not beams:
            break
    return sorted([*finished, *beams], key=lambda beam: -beam[1])


@settings(max_examples=20, deadline=None)
@given(config=configs(), data=st.data())
def test_equal_to_the_search_without_a_cache(config, data):
    model = Model(config, random_weights(config, data.draw(st.integers(0, 3))), dtype="float64")
    prompt = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=4))
    width, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    stop = data.draw(st.sampled_from([None, 2]))
    cache = data.draw(st.sampled_from(["dynamic", "none", "static:40"]))
    feed = data.draw(st.sampled_from(["prefill", "token", "chunk:2"]))
    wanted = by_definition(model, prompt, n, width, stop)
    if width == 1:
        run = kvsim.generate(model, prompt, n, cache=cache, feed=feed, stop=stop)
        assert run.new_ids == wanted[0][0]
        return
    run = kvsim.generate(model, prompt, n, cache=cache, feed=feed, beams=width, stop=stop)
    assert run.ids == [*prompt, *run.new_ids]
    assert [beam.score for beam in run.beams] == pytest.approx([score for _, score in wanted], abs=1e-9)
    apart = all(a[1] - b[1] > 1e-9 for a, b in itertools.pairwise(wanted))
    if apart:
        assert [beam.new_ids for beam in run.beams] == [text for text, _ in wanted]


def test_as_many_beams_as_ids_find_the_likeliest_text():
    config = replace(PRIMES, vocab_size=7)
    model = Model(config, random_weights(config), dtype="float64")
    run = kvsim.generate(model, [5, 6], 2, beams=config.vocab_size)
    first = log_probs(model, [5, 6])
    pairs = itertools.product(range(7), repeat=2)
    best = max((first[i] + log_probs(model, [5, 6, i])[j], (i, j)) for i, j in pairs)
    assert tuple(run.new_ids) == best[1]
    assert run.beams[0].score == pytest.approx(best[0])


def test_one_product_a_step_for_all_beams():
    run = kvsim.generate(demo(), "中华人民", 4, beams=3)
    assert len(run.beams) == 3
    assert run.text == run.beams[0].text
    assert run.text.startswith("中华人民")
    assert [len(step.fed) for step in run.steps] == [4, 3, 3, 3]
    assert [event.m for event in run.steps[1].events if event.site == "layers.0.query"] == [3]
    assert sorted((beam.score for beam in run.beams), reverse=True) == [beam.score for beam in run.beams]


def test_beams_of_an_encoder_decoder():
    name = next(name for name in ZOO if ZOO[name].encoder is not None and ZOO[name].audio is None)
    model = make(ZOO[name], "numpy", "float64")
    run = kvsim.generate(model, [5, 6, 7], 3, beams=2)
    start = run.ids[0]
    texts = []
    for beam in run.beams:
        total = 0.0
        for i, token in enumerate(beam.new_ids):
            row = np.asarray(model([start, *beam.new_ids[:i]], encoder_ids=[5, 6, 7])[-1], np.float64)
            total += float(row[token]) - math.log(np.exp(row - row.max()).sum()) - row.max()
        texts.append(total)
    assert texts == pytest.approx([beam.score for beam in run.beams])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beams": 0}, "beams must be a whole number of at least 1, got 0"),
        ({"beams": 102}, "beams must be at most 101, got 102"),
        ({"beams": True}, "beams must be"),
        ({"beams": 2, "temperature": 1.0}, "cannot be combined"),
        ({"beams": 2, "draft": "ngram:2"}, "cannot be combined"),
        ({"beams": 2, "keep_logits": True}, "cannot be combined"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(UsageError, match=said):
        kvsim.generate(make_model(PRIMES), [1], 2, **options)
