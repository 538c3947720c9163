"""What was run before is not run again, and what differs in anything is."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.feeds import boundaries, references
from kvsim.testing.feeds.known_runs import KnownRuns, fingerprint
from kvsim.testing.verdict import diagnosing
from kvsim.weights import map_arrays
from tests.testing.strangers.numpy_decoders import Int8, NumpyDecoder, TopLeft

SMALL = {"heads": 2, "kv_heads": 1, "d_head": 4, "layers": 1}


@pytest.fixture
def ran(monkeypatch):
    """What the decoders of the bank and the emulated ones were asked, with nothing known."""
    asked, known = Counter(), KnownRuns()
    for module in (diagnosing, references, boundaries):
        monkeypatch.setattr(module, "KNOWN", known)
    run, emulate, find = diagnosing.run_decoder, references.Reference.emulate, boundaries._find_draw

    def counted(cls, config, weights, policy, texts, *more):
        asked[cls, policy, str(texts)] += 1
        return run(cls, config, weights, policy, texts, *more)

    def emulated(reference, text, dtype):
        asked[dtype, reference.policy, str(text)] += 1
        return emulate(reference, text, dtype)

    def found(reference, feed, number, *more):
        asked["draw", feed, number] += 1
        return find(reference, feed, number, *more)

    monkeypatch.setattr(diagnosing, "run_decoder", counted)
    monkeypatch.setattr(references.Reference, "emulate", emulated)
    monkeypatch.setattr(boundaries, "_find_draw", found)
    return asked


def text_of_failure(weights, cls=TopLeft, policy="dynamic", **more):
    with pytest.raises(OracleError) as caught:
        testing.assert_policy(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, policy, **more)
    return str(caught.value)


def test_the_same_check_again_runs_nothing_and_says_the_same(ran):
    first = text_of_failure(testing.weights(**SMALL, window=4))
    known = dict(ran)
    assert len(known) > 100
    assert set(known.values()) == {1}
    assert text_of_failure(testing.weights(**SMALL, window=4)) == first
    assert ran == known


def test_texts_that_keep_from_boundaries_are_looked_for_once(ran):
    class Floors(Int8):
        def round(self, x):
            return np.floor(x)

    weights = testing.weights(dtype="float32", **SMALL)
    first = text_of_failure(weights, Floors, "int8:group=2,residual=1")
    known = dict(ran)
    assert sum(key[0] == "draw" for key in known) > 9
    assert text_of_failure(weights, Floors, "int8:group=2,residual=1") == first
    assert ran == known
    text_of_failure(weights, Floors, "int8:group=4,residual=1")
    assert sum(key[0] == "draw" and n > 1 for key, n in ran.items()) > 9


@pytest.mark.parametrize("change", [
    lambda weights: testing.weights(**SMALL, seed=1),
    lambda weights: weights.with_window(4),
    lambda weights: testing.ModelWeights(replace(weights.config, rope_theta=10.0), dict(weights)),
    lambda weights: testing.weights(**SMALL, d_ff=44),
])  # fmt: skip
def test_other_weights_and_other_models_are_run(ran, change):
    weights = testing.weights(**SMALL)
    text_of_failure(weights)
    known = dict(ran)
    text_of_failure(change(weights))
    again = [key for key, n in ran.items() if key in known and n > known[key]]
    assert len(again) > 100


def test_weights_that_are_changed_in_place_are_others(ran):
    weights = testing.weights(**SMALL)
    text_of_failure(weights)
    known = dict(ran)
    weights["lm_head.weight"][0, 0] += 1.0
    text_of_failure(weights)
    assert sum(ran[key] > n for key, n in known.items()) > 100
    testing.assert_split_invariant(lambda: NumpyDecoder(weights), lambda m, ids: m.forward(ids), weights)


def test_a_fingerprint_is_of_every_number_and_its_place():
    weights = testing.weights().to_weights()
    other = testing.weights().to_weights()
    assert fingerprint(weights) == fingerprint(other)
    first, second = weights.layers
    assert fingerprint(replace(weights, layers=(second, first))) != fingerprint(weights)
    assert fingerprint(replace(weights, head=None)) != fingerprint(weights)
    narrow = map_arrays(weights, lambda x: x.astype(np.float32))
    assert fingerprint(narrow) != fingerprint(weights)
    seen = set()
    for place in ((0, 0), (-1, -1)):
        tokens = weights.tokens.copy()
        tokens[place] = np.nextafter(tokens[place], np.inf)
        seen.add(fingerprint(replace(weights, tokens=tokens)))
    assert len(seen | {fingerprint(weights)}) == 3
    assert fingerprint(replace(weights, tokens=np.asfortranarray(weights.tokens))) == fingerprint(weights)


def test_the_least_recently_used_go_first():
    known, calls = KnownRuns(most_bytes=3 * 80), []

    def ask(key):
        def run():
            calls.append(key)
            return [np.full(10, float(ord(key))), None]

        array, none = known.get(key, run)
        assert (array[0], none) == (ord(key), None)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0

    for key in "abcad":  # b goes
        ask(key)
    assert known.nbytes == 240
    for key in "acdb":
        ask(key)
    assert "".join(calls) == "abcdb"


def test_one_that_is_too_large_is_not_kept():
    known = KnownRuns(most_bytes=8)
    assert known.get("a", lambda: [np.zeros(2)])[0].shape == (2,)
    assert (known.nbytes, known.get("a", lambda: [np.ones(1)])[0][0]) == (0, 1.0)
