"""`kvsim.cost`: against `kvsim.count`, masks counted cell by cell, arrays summed one by one, and runs on numbers."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.config import Experts, LayerKind
from kvsim.costs.bytes.kinds import without_scales
from kvsim.costs.bytes.parameters import shares_tokens
from kvsim.costs.work.conventions import CONVENTIONS
from kvsim.costs.work.cost import cost
from kvsim.costs.work.reads import count_reads
from kvsim.doctor.against_numpy import IDS
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.weights import Attention, Mixture
from tests.arrays.runs import ZOO
from tests.counting.closed_form import attention_macs, step_macs
from tests.models import PRIMES, configs

CACHES = ("dynamic", "none", "static:99", "window:3")
MIXED = replace(PRIMES, layers=(PRIMES.layers[0], LayerKind(window=3, experts=Experts(5, 2, 7, d_shared=4))))


def steps_of(spec, prompt, new):
    """(tokens fed, tokens in the text then) of every step."""
    if spec == "none":
        return [(t, t) for t in range(prompt, prompt + new)]
    return [(prompt, prompt), *((1, prompt + i) for i in range(1, new))]


def useful_macs(config, new, stop, policy_window):
    """Cell by cell: query i sees key j if j <= i, and j > i - window where there is one."""
    sites = step_macs(config, new, stop)
    for layer, kind in enumerate(config.layers):
        window = min(kind.window or stop, policy_window or stop)
        query, key = np.arange(stop - new, stop)[:, None], np.arange(stop)[None, :]
        pairs = int(((key <= query) & (key > query - window)).sum())
        one = attention_macs(config, 1, 1)
        for name in ("scores", "context"):
            sites[f"{layer}.{name}"] = pairs * one[name]
    return sites


@settings(max_examples=40)
@given(config=configs(), prompt=st.integers(1, 12), new=st.integers(1, 9), spec=st.sampled_from(CACHES))
def test_phases_are_the_count_and_conventions_are_what_they_say(config, prompt, new, spec):
    config = replace(config, max_context=64)
    found = cost(config, prompt=prompt, new=new, cache=spec)
    counted = kvsim.count(config, prompt=prompt, new=new, cache=spec)
    window = 3 if spec == "window:3" else None
    side, steps = found.cached, steps_of(spec, prompt, new)
    assert [side.prefill.fed, side.decode.fed] == [steps[0][0], sum(new for new, _ in steps[1:])]
    assert [side.prefill.steps, side.decode.steps, side.total.steps] == [1, new - 1, new]
    for convention in CONVENTIONS:
        assert side.prefill.flops(convention) + side.decode.flops(convention) == side.total.flops(convention)
        assert side.total.macs(convention) * 2 == side.total.flops(convention)
        for key in ("site", "layer", "kind", "place"):
            assert sum(side.total.flops_by(key, convention).values()) == side.total.flops(convention)
        total = sum(side.step_flops(i, convention) for i in range(1, new + 1))
        assert total == side.total.flops(convention)
        assert side.step_flops(1, convention) == side.prefill.flops(convention)
    assert side.total.flops("square") == counted.flops
    assert side.total.flops_by("site", "square") == {name: t.flops for name, t in counted.by("site").items()}
    assert side.total.flops("causal") == 2 * counted.useful_macs
    if config.latent is None or config.latent.form != "reexpanded":  # whose expansion follows what the cache holds
        cells = [useful_macs(config, *step, window) for step in steps]
        assert side.total.macs("causal") == sum(sum(sites.values()) for sites in cells)
        head = config.d_model * config.vocab_size
        assert side.total.macs("last") == sum(sum(s.values()) - s["head"] + head for s in cells)
        per_layer = [
            sum(macs for s in cells for site, macs in s.items() if site.startswith(f"{i}."))
            for i in range(config.n_layers)
        ]
        kinds, layers = side.total.flops_by_layer_kind("causal"), without_scales(config.layers)
        assert kinds == {
            kind: 2 * sum(macs for other, macs in zip(layers, per_layer, strict=True) if other == kind)
            for kind in layers
        }
    if spec == "none":
        assert found.ratio("last") == 1


def encoded(model, source):
    """The arguments of a step with `source` positions."""
    if model.config.encoder is None:
        return {}
    audio = model.config.encoder.audio
    given = {"features": np.ones((audio.n_mels, 2 * source))} if audio else {"ids": [1] * source}
    return {"encoder_states": model.encode(**given)}


@pytest.mark.parametrize("spec", ["dynamic", "none"])
@pytest.mark.parametrize("name", ZOO)
def test_last_is_what_a_model_counts_that_reads_out_the_last_position(name, spec):
    """Steps on numbers, with logits="last": pairs that the mask admits."""
    config = ZOO[name]
    model, source = Model(config, random_weights(config), dtype="float64"), 5 if config.encoder else None
    cache, found = model.new_cache(spec), cost(config, prompt=3, new=4, cache=spec, source=source)
    states = None
    for number in range(1, 5):
        with model.count() as ledger:
            states = encoded(model, source) if states is None else states
            model(IDS[cache.seen : 2 + number], cache, logits="last", **states)
        assert found.cached.step_flops(number, "last") == 2 * ledger.useful_macs


# Bytes


def arrays(record):
    """Every array under a record of weights, each once."""
    if record is None:
        return []
    if isinstance(record, tuple):
        return [a for part in record for a in arrays(part)]
    if dataclasses.is_dataclass(record):
        return [a for f in dataclasses.fields(record) for a in arrays(getattr(record, f.name))]
    return [record]


def weight_bytes(config, weights, rows, first, made, source):
    """Walks the arrays of one step: `made`: whether keys and values of the source are computed"""

    def stack(w, rows, head):
        tables = [t for t in (w.tokens, w.positions) if t is not None]
        found = sum(rows * table.shape[1] for table in tables)
        found += sum(a.size for a in arrays((w.project_in, w.embedding_norm, w.convolutions, w.buckets)))
        found += sum(a.size for a in arrays((w.final_norm, w.project_out)))
        found += sum(a.size for a in arrays(head))
        for i, layer in enumerate(w.layers):
            parts = {
                id(a): a.size for a in arrays((layer.attention_norms, layer.ff_norms))
            }  # shared by parallel halves
            found += sum(parts.values())
            found += sum(a.size for a in arrays((layer.attention, layer.cross_norms)))
            if layer.cross is not None:
                assert isinstance(layer.cross, Attention)
                c = layer.cross
                found += sum(a.size for a in arrays((c.query, c.output, c.query_norm, c.sinks)))
                found += sum(a.size for a in arrays((c.key, c.value, c.key_norm))) * made
            if isinstance(layer.ff, Mixture):
                experts = config.layers[i].experts
                found += sum(a.size for a in arrays((layer.ff.router, layer.ff.correction, layer.ff.shared)))
                read = min(experts.count, rows * experts.chosen)
                found += sum(a.size for expert in layer.ff.experts[:read] for a in arrays(expert))
            else:
                found += sum(a.size for a in arrays(layer.ff))
        return found

    found = stack(weights, rows, weights.head)
    return found + (stack(weights.encoder, source, None) if first and weights.encoder is not None else 0)


def check_bytes(config, prompt, new, spec, source=None):
    weights = random_weights(config)
    model = Model(config, random_weights(config), dtype="float64")
    cache, found = (
        model.new_cache(spec),
        cost(config, prompt=prompt, new=new, cache=spec, source=source, dtype="float64"),
    )
    side, moved = found.cached, []
    states = encoded(model, source)
    for number, (fed, stop) in enumerate(steps_of(spec, prompt, new), start=1):
        held = cache.logical_bytes
        made = number == 1 or spec == "none"
        model([1] * fed, cache, **states)
        rows = sum(fed * (l.keys.shape[0] * l.keys.shape[2] + l.values.shape[0] * l.values.shape[2])
                   for l in cache.layers) if spec != "none" else 0  # fmt: skip
        if number == 1:
            rows += sum(c.keys.size + c.values.size for c in cache.cross)
        moved.append((8 * weight_bytes(config, weights, fed, number == 1, made, source), held, 8 * rows))
        assert cache.seen in (0, stop)
    assert tuple(side.prefill.moved) == moved[0]
    assert tuple(side.decode.moved) == tuple(map(sum, zip((0, 0, 0), *moved[1:], strict=True)))
    assert tuple(side.total.moved) == tuple(map(sum, zip(*moved, strict=True)))
    twice = weights.tokens.size if shares_tokens(config) else 0  # random weights make a table for each stack
    assert found.parameters.total == sum({id(a): a.size for a in arrays(weights)}.values()) - twice


@settings(max_examples=40)
@given(config=configs(), prompt=st.integers(1, 9), new=st.integers(1, 7), spec=st.sampled_from(CACHES))
def test_bytes_are_those_of_the_arrays(config, prompt, new, spec):
    check_bytes(replace(config, max_context=32), prompt, new, spec)


@pytest.mark.parametrize("spec", ["dynamic", "none"])
@pytest.mark.parametrize("name", ZOO)
def test_bytes_of_every_family(name, spec):
    config = ZOO[name]
    check_bytes(config, 3, 4, spec, None if config.encoder is None else 5)


@pytest.mark.parametrize("fed", [1, 2, 3, 7])
def test_experts_that_a_step_reads(fed):
    """On numbers: one token reads as many as it chooses, several at most the upper bound."""
    model = Model(MIXED, random_weights(MIXED), dtype="float64")
    with model.count() as ledger:
        model(list(range(fed)))
    chosen = {event.layer for event in ledger if ".experts." in event.site}
    one = 3 * 13 * 7
    most = sum(array.read(fed) for array in count_reads(MIXED).decoder.mixed)
    assert len(chosen) * one <= most == min(5, 2 * fed) * one
    assert fed > 1 or len(chosen) * one == most
