"""The recorded values of a trace are what `model.watch` sees, to 15 significant bits."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.comparisons import trace_values
from kvsim.comparisons.trace_values import PLACES, decode, encode
from kvsim.config import Latent, LayerKind, Rope
from kvsim.errors import UsageError
from tests.models import PRIMES, make_model

IDS = [3, 14, 15, 92, 65, 35]
ABSORBED = replace(
    PRIMES, n_kv_heads=6, latent=Latent(5, 7, 3, 4, 10, 1e-6, "absorbed"),
    layers=(LayerKind(rope=Rope(10000.0, 4)),) * 2,
)  # fmt: skip
WINDOW = replace(PRIMES, layers=(replace(PRIMES.layers[0], window=4), PRIMES.layers[1]))


def watched(model, trace):
    """{(step, run, place): array} of the same two runs, by `model.watch`."""
    found, cache, ids = {}, model.new_cache(trace.cache), []
    for step in trace.steps:
        ids += [piece.id for piece in step.fed]
        for run, held in (("no_cache", None), ("cached", cache)):
            with model.watch("layers.*") as seen:
                model(ids if held is None else ids[cache.seen :], held)
            for place, x in seen.items():
                if place.rpartition(".")[2] in PLACES:
                    found[step.number, run, place] = x.reshape(-1, *x.shape[-2:])
    return found


@pytest.mark.parametrize("feed", ["token", "prefill", "chunk:4"])
@pytest.mark.parametrize("config", [PRIMES, WINDOW, ABSORBED], ids=["grouped", "window", "absorbed"])
def test_values_are_those_that_watch_sees(config, feed):
    model = make_model(config, "float32")
    trace = kvsim.trace(IDS, model, 5, feed, values=True)
    expected = watched(model, trace)
    assert expected.keys() == trace.values.shapes.keys()
    for (step, run, place), x in expected.items():
        assert np.array_equal(trace.values.read(step, run, place), decode(encode(x))), (step, run, place)
    assert trace.to_dict() == kvsim.trace(IDS, model, 5, feed).to_dict()  # recording changes nothing


def test_codes_are_float32_rounded_to_15_bits():
    x = np.array([0.0, -0.0, 1.0, -1.5, 1e-30, 3.0e38, 1e300, 0.1, np.pi, 1 + 2.0**-15, 1 + 3 * 2.0**-15])
    found = decode(encode(x))
    assert np.all(np.abs(found[:6] - x[:6]) <= 2.0**-15 * np.abs(x[:6]))
    assert found[6] == np.inf
    assert np.all(np.abs(found[7:] - x[7:]) <= 2.0**-15 * np.abs(x[7:]))
    assert found[9] == 1.0
    assert found[10] == 1 + 4 * 2.0**-15  # to even
    assert encode(x).max() < 2**24


def test_values_are_left_out():
    model = make_model(PRIMES, "float32")
    assert kvsim.trace(IDS, model).values is None
    trace = kvsim.trace([1] * 61, model, 4, "prefill", values=True)
    assert (trace.values_left_out, len(trace.values.stops)) == (None, 4)
    assert (
        kvsim.trace([1] * 61, make_model(replace(PRIMES, max_context=99)), 5, "prefill", values=True).values_left_out
        == "tokens"
    )


def test_too_many_numbers_are_left_out(monkeypatch):
    model = make_model(PRIMES, "float32")
    size = kvsim.trace(IDS, model, values=True).values.size
    monkeypatch.setattr(trace_values, "MAX_NUMBERS", size)
    assert kvsim.trace(IDS, model, values=True).values.size == size
    monkeypatch.setattr(trace_values, "MAX_NUMBERS", size - 1)
    trace = kvsim.trace(IDS, model, values=True)
    assert (trace.values, trace.values_left_out) == (None, "numbers")


def test_a_trace_with_values_can_be_compared_and_pickled():
    trace = kvsim.trace(IDS, make_model(PRIMES, "float32"), values=True)
    copied = pickle.loads(pickle.dumps(trace))
    assert copied == trace == kvsim.trace(IDS, make_model(PRIMES, "float32"))
    place = (3, "cached", "layers.1.probs")
    assert np.array_equal(copied.values.read(*place), trace.values.read(*place))
    assert len(repr(trace)) <= 200


def test_values_takes_a_flag():
    with pytest.raises(UsageError, match="values"):
        kvsim.trace(IDS, make_model(PRIMES), values="yes")
