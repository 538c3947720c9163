"""The independent decoder and kvsim's own model give the same logits on every configuration that the decoder covers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvsim.config import LayerKind, Rope
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.testing.feeds.chunking import split_chunks
from kvsim.testing.independent.decoder import ACTIVATIONS, Decoder, covers
from tests.models import CLOSE, GPT2_LIKE, PRIMES, cuts, make_model


@st.composite
def covered(draw):
    """Random configurations: grouped queries, rotary halves or adjacent pairs on a part of each head, windows, learned
    positions, both norms, biases, activations, scales, tied heads."""
    n_kv_heads, group = draw(st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 2), (3, 2)]))
    d_head = draw(st.sampled_from([2, 4, 10]))
    kinds = []
    positions = draw(st.sampled_from(["rope", "learned", "none"]))
    for _ in range(draw(st.integers(1, 3))):
        size, pairs = draw(st.sampled_from([d_head, 2])), draw(st.sampled_from(["halves", "adjacent"]))
        rope = Rope(draw(st.sampled_from([10.0, 10000.0])), size, pairs) if positions == "rope" else None
        window, scale = draw(st.sampled_from([None, 1, 3, 7])), draw(st.sampled_from([None, 0.5]))
        kinds.append(LayerKind(rope, window, scale))
    flags = {name: draw(st.booleans()) for name in ("gated", "qkv_bias", "out_bias", "ff_bias", "tied_head")}
    return replace(
        PRIMES, n_layers=len(kinds), layers=tuple(kinds), n_heads=n_kv_heads * group, n_kv_heads=n_kv_heads,
        d_head=d_head, d_model=draw(st.sampled_from([6, 13])), vocab_size=23, max_context=32,
        norm=draw(st.sampled_from(["rms", "layer"])), norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))), learned_positions=positions == "learned", **flags,
    )  # fmt: skip


LOSSLESS = ("dynamic", "static:32", "window:3", "sinks:1+2", "paged:2")


def relative_difference(config, seed, ids, sizes, policy):
    """The largest difference over max|logit|. The model is fed in chunks; the decoder all at once, except under lossy
    policies, where the result depends on the chunks."""
    model = make_model(config, "float64", seed)
    cache, decoder = model.new_cache(policy), Decoder(config, random_weights(config, seed), policy)
    parts = split_chunks(ids, sizes)
    model_logits = [model(part, cache) for part in parts]
    logits = decoder.forward(ids) if policy in LOSSLESS else np.concatenate([decoder.forward(part) for part in parts])
    expected = np.concatenate(model_logits)
    assert logits.shape == expected.shape
    return np.abs(logits - expected).max() / np.abs(expected).max()


@settings(max_examples=150)
@given(config=covered(), seed=st.integers(0, 3), data=st.data(), policy=st.sampled_from(LOSSLESS))
def test_kvsims_own_model_agrees(config, seed, data, policy):
    assume("sinks" not in policy or not config.learned_positions)  # kvsim refuses this combination
    assert covers(config, policy)
    sizes = data.draw(cuts(data.draw(st.integers(1, 9))))
    ids = data.draw(st.lists(st.integers(0, 22), min_size=sum(sizes), max_size=sum(sizes)))
    assert relative_difference(config, seed, ids, sizes, policy) <= CLOSE["float64"]


@settings(max_examples=40)
@given(config=covered(), seed=st.integers(0, 3), sizes=cuts(9))
def test_kvsims_own_model_agrees_in_8_bits(config, seed, sizes):
    policy = "int8:group=2,residual=1"
    assert relative_difference(config, seed, [3, 1, 4, 1, 5, 9, 2, 6, 5], sizes, policy) <= CLOSE["float64"]


@settings(max_examples=40)
@given(config=covered(), data=st.data(), policy=st.sampled_from(["dynamic", "window:2", "sinks:1+2", "paged:2"]))
def test_any_cut_of_the_decoder(config, data, policy):
    weights, sizes = random_weights(config), data.draw(cuts(7))
    whole, cut, ids = Decoder(config, weights, policy), Decoder(config, weights, policy), [3, 1, 4, 1, 5, 9, 2]
    start, rows = 0, []
    for size in sizes:
        rows.append(cut.forward(ids[start : start + size]))
        start += size
    expected = whole.forward(ids)
    assert np.abs(np.concatenate(rows) - expected).max() <= CLOSE["float64"] * np.abs(expected).max()


@pytest.mark.parametrize("config", [PRIMES, GPT2_LIKE], ids=["rope", "learned"])
def test_configs_with_prime_sizes(config):
    assert relative_difference(config, 0, list(range(11)), [3, 3, 1, 4], "dynamic") <= CLOSE["float64"]


def test_sinks_are_seen_at_positions_counted_in_the_cache():
    """The logits are those of a text without the tokens between sinks and window."""
    config = replace(PRIMES, n_layers=1, layers=PRIMES.layers[:1])
    weights = random_weights(config)
    long, short = Decoder(config, weights, "sinks:1+3"), Decoder(config, weights)
    last = long.forward([5, 6, 7, 8, 9, 10, 11])[-1]
    assert np.abs(last - short.forward([5, 9, 10, 11])[-1]).max() <= CLOSE["float64"] * np.abs(last).max()


def test_what_it_does_not_cover_is_refused():
    weights = random_weights(PRIMES)
    with pytest.raises(UsageError, match="covers pre-norm decoders"):
        Decoder(replace(PRIMES, score_cap=3.0), weights)
    with pytest.raises(UsageError, match="covers pre-norm decoders"):
        Decoder(PRIMES, weights, "h2o:4")
