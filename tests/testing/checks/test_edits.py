"""Caches that are cropped and forked between steps: right ones are accepted, mistakes named, each as itself alone."""

import copy
import re

import numpy as np
import pytest

from kvsim import testing
from kvsim.errors import UsageError
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.checks.edits import edits_of
from kvsim.testing.explaining import ExplainOptions, show_mistake
from kvsim.testing.feeds.chunking import small_feeds
from kvsim.testing.feeds.references import Reference
from kvsim.testing.feeds.scripts import CROP, CROPS, FEED, FORK, FORKS, MAKE, REORDER, REORDERS, play, tokens_of
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import equal
from tests.testing.strangers.numpy_decoders import NumpyDecoder, Preallocated


def ways():
    """In batches the second and later readings, and crops and forks, are tried with the extra dev, as float32 is."""
    for mistake in (m for m in BANK.values() if m.edits):
        for number, cls in enumerate(mistake.variants):
            for batched in (False, True):
                for dtype in ("float64", "float32"):
                    late = dtype == "float32" or (batched and (number or mistake.edits != "reorder"))
                    yield pytest.param(mistake, cls, dtype, batched, marks=[pytest.mark.dev] if late else [],
                                       id=f"{cls.__name__}-{dtype}{'-batched' if batched else ''}")  # fmt: skip


@pytest.mark.parametrize(("mistake", "cls", "dtype", "batched"), [*ways()])
def test_every_mistake_is_named_alone(mistake, cls, dtype, batched):
    weights = testing.weights(window=4, layers=1, heads=2, kv_heads=1, dtype=dtype)
    one = edits_of(cls, Reference(weights), batched)
    if batched and mistake.id == "reorder_keeps_positions":  # no mistake: sequences of a batch are of one length
        testing.assert_edits(one.make, one.step, weights, reorder=one.reorder, batched=True)
        return
    with pytest.raises(OracleError) as caught:
        testing.assert_edits(one.make, one.step, weights, crop=one.crop, fork=one.fork, reorder=one.reorder,
                             batched=batched)  # fmt: skip
    assert caught.value.facts["diagnosis"] == [mistake.id]


@pytest.mark.parametrize("batched", [False, True])
def test_the_independent_decoder_is_accepted(batched):
    weights = testing.weights(window=4)
    one = edits_of(Decoder, Reference(weights), batched)
    testing.assert_edits(
        one.make, one.step, weights, crop=one.crop, fork=one.fork, reorder=one.reorder, batched=batched
    )


def every_script(edit, feed):
    """The scripts that feed a text, edit once, and feed a token to each state."""
    before = [(FEED, 0, count) for count in feed]
    if edit == "crop":
        return [[*before, (CROP, 0, n), (FEED, 0, 1)] for n in range(sum(feed))]
    if edit == "fork":
        return [[*before, (FORK, 0, 0), (FEED, 0, 1), (FEED, 1, 1), (FEED, 0, 1)]]
    lengths = [[*before, (FEED, 1, 1)], [*before, *((FEED, 1, n) for n in feed)]]
    return [
        [(MAKE, 0, 0), (MAKE, 0, 0), *fed, (REORDER, 0, order), *((FEED, which, 1) for which in range(3))]
        for fed in lengths for order in ((1, 2, 0), (1, 1, 0))
    ]  # fmt: skip


@pytest.mark.parametrize("mistake", [m for m in BANK.values() if m.edits], ids=lambda m: m.id)
def test_there_is_no_smaller_feed(mistake):
    exact = Reference(testing.weights(window=mistake.window))

    def shows(feed):
        played = [play(edits_of(mistake.variants[0], exact), script, list(range(20)), exact)
                  for script in every_script(mistake.edits, feed)]  # fmt: skip
        return any(not equal(p.got, p.expected, 1e-9) for p in played)

    assert next(feed for feed in small_feeds(4) if shows(feed)) == mistake.smallest


def cropped(decoder, length):
    decoder.caches = [tuple(x[:, :length] for x in cache) for cache in decoder.caches]
    decoder.seen = length


def forked(decoder):
    other = copy.copy(decoder)
    other.caches = list(decoder.caches)
    return other


def check(cls=NumpyDecoder, crop=cropped, fork=forked, **more):
    weights = testing.weights(window=4)
    testing.assert_edits(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, crop=crop, fork=fork, **more)


def test_right_ones_are_accepted():
    check()
    check(fork=None)
    check(crop=None, fork=copy.deepcopy)
    check(Preallocated, crop=lambda m, length: setattr(m, "seen", length), fork=copy.deepcopy)
    check(crop=lambda m, length: (m := copy.deepcopy(m), cropped(m, length))[0])


@pytest.mark.parametrize(("edits", "id"), [
    ({"crop": lambda m, length: cropped(m, length) if length else None}, "crop_zero_keeps_all"),
    ({"crop": lambda m, length: (cropped(m, length), setattr(m, "seen", m.seen + 1))[0]}, "unknown"),
    ({"fork": lambda m: m}, "fork_not_copied"),
    ({"cls": Preallocated, "crop": lambda m, length: setattr(m, "seen", length), "fork": forked}, "fork_shares_tail"),
])  # fmt: skip
def test_wrong_ones_are_named(edits, id):
    with pytest.raises(OracleError, match="in the script: ") as caught:
        check(**edits)
    assert caught.value.facts["diagnosis"] == [id]


def test_what_cannot_be_compared():
    with pytest.raises(UsageError, match="give at least one"):
        check(crop=None, fork=None)
    with pytest.raises(OracleError, match="raised RuntimeError: no"):
        check(fork=lambda m: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(OracleError, match="shape"):
        check(type("Last", (NumpyDecoder,), {"forward": lambda m, ids: NumpyDecoder.forward(m, ids)[-1:]}))
    with pytest.raises(OracleError, match="max"):
        check(type("Blank", (NumpyDecoder,), {"forward": lambda m, ids: NumpyDecoder.forward(m, ids) * np.nan}))


def changes_ids(decoder, ids):
    logits = decoder.forward(ids)
    ids.append(0)
    return logits


def changes_weights(decoder, ids):
    logits = decoder.forward(ids)
    decoder.w["lm_head.weight"] *= 2
    return logits


@pytest.mark.parametrize(("step", "edits", "said"), [
    (changes_ids, {}, "step changed the list of ids that it was given"),
    (changes_weights, {}, "the weights were changed by make or step: lm_head.weight"),
    (NumpyDecoder.forward, {"reorder": lambda states, order: states[0]}, "reorder gave NumpyDecoder, expected"),
    (NumpyDecoder.forward, {"reorder": lambda states, order: states[:2]}, "reorder gave list, expected a list of 3"),
    (lambda m, rows: np.zeros((2, len(rows[0]), 31)), {"batched": True}, r"expected [B, T, V] = [3, 3, 31]"),
])  # fmt: skip
def test_results_that_are_none(step, edits, said, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    weights = testing.weights()
    with pytest.raises(OracleError, match=re.escape(said)):
        testing.assert_edits(lambda: NumpyDecoder(weights), step, weights, **({"fork": forked} | edits))


def test_a_window_that_no_script_can_fill_is_refused():
    weights = testing.weights(window=63)
    with pytest.raises(UsageError, match="would not be checked"):
        testing.assert_edits(lambda: NumpyDecoder(weights), NumpyDecoder.forward, weights, crop=cropped)
    testing.assert_edits(lambda: NumpyDecoder(weights), NumpyDecoder.forward, weights, fork=forked)
    assert [tokens_of(script) for script in (*CROPS, *FORKS, *REORDERS)] == [5, 3, 5, 6, 4, 4, 4]


@pytest.mark.parametrize("first", [0, 2])
def test_the_first_wrong_step_is_told(first, monkeypatch):
    """As a call of the script, which numbers the ids."""
    monkeypatch.setenv("KVSIM_LANG", "en")
    weights, steps = testing.weights(), []

    def step(decoder, ids):
        steps.append(ids)
        return decoder.forward(ids) + (len(steps) > first)

    with pytest.raises(OracleError) as caught:
        testing.assert_edits(lambda: NumpyDecoder(weights), step, weights, fork=forked)
    text = str(caught.value)
    assert "in the script: a = make(); step(a, ids[0:3]); b = fork(a); step(b, ids[3:5]); step(a, ids[5:7]);" in text
    assert f"those of step(a, ids[{'0:3' if first == 0 else '5:7'}])" in text
    assert "in 2 of 2 scripts" in text


def test_explain_shows_them():
    assert "[fork_shares_tail]" in show_mistake(BANK["fork_shares_tail"], ExplainOptions())
    assert "[ring_rolled_back]" in show_mistake(BANK["ring_rolled_back"], ExplainOptions())
