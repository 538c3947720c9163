"""Watching records arrays without changing the computation, and recorded arrays are never overwritten."""

import json
from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.config import Alibi, Latent, LayerKind, Rope
from kvsim.loading.config_file import make_config
from kvsim.loading.facts import Facts
from kvsim.loading.random_weights import random_weights
from kvsim.loading.small_models import FILE
from kvsim.model import Model
from kvsim.transformer.places import list_places
from tests.models import GPT2_LIKE, PRIMES, make_model

IDS = [5 + i % 90 for i in range(400)]
BLOCKED = 95_361_024


@pytest.fixture(scope="module")
def blocked():
    return kvsim.load("demo", attention="blocked")


def count_macs(model, *patterns):
    with model.ops.watch(*patterns) as seen, model.count() as ledger:  # also places that the model lacks
        model(IDS)
    return ledger.macs, seen


@pytest.mark.parametrize(
    "patterns", [(), ("final",), ("embedding", "layers.*.hidden"), ("layers.*.cross_probs",), ("nowhere",)]
)
def test_watching_outside_attention_keeps_it_blocked(blocked, patterns):
    assert count_macs(blocked, *patterns)[0] == BLOCKED


@pytest.mark.parametrize("place", ["query", "value", "scores", "capped", "masked", "probs", "context", "*"])
def test_watching_inside_attention_computes_full_squares(blocked, place):
    macs, seen = count_macs(blocked, f"layers.*.{place}")
    square = count_macs(kvsim.load("demo"))[0]
    assert macs == square > BLOCKED
    for name, shown in seen.items():
        if not name.endswith("hidden"):
            assert shown.shape[-2:] == (400, 400 if name.endswith(("scores", "capped", "masked", "probs")) else 16)


def test_only_the_layers_that_are_watched_compute_full_squares(blocked):
    square = count_macs(kvsim.load("demo"))[0]
    macs, seen = count_macs(blocked, "layers.0.probs")
    assert list(seen) == ["layers.0.probs"]
    assert 2 * macs == square + BLOCKED  # one of two layers


@pytest.mark.parametrize(
    "patterns",
    [("layers.*.scores",), ("layers.*.masked",), ("layers.*.[qkvc]*",), ("layers.*.capped", "final"), ("*",)],
)
@pytest.mark.parametrize("config", [PRIMES, GPT2_LIKE], ids=["rope", "learned"])
def test_no_array_that_was_shown_is_overwritten(config, patterns):
    """Each recorded array keeps its contents, although arrays that are not watched may be overwritten in place."""
    model = Model(config, random_weights(config), dtype="float64")
    copies = {}
    with model.watch(*patterns) as seen:
        show = seen.show

        def keep(name, x):
            show(name, x)
            if name in seen and seen[name] is x:
                copies.setdefault(name, []).append(x.copy())

        seen.show = keep
        cache = model.new_cache()
        logits = [model(IDS[:9], cache), model(IDS[9:10], cache)]
    assert copies
    for name, shown in seen.history.items():
        assert len(shown) == len(copies[name]) == 2
        assert all(np.array_equal(a, b) for a, b in zip(shown, copies[name], strict=True)), name
    cache = model.new_cache()
    for watched, ids in zip(logits, (IDS[:9], IDS[9:10]), strict=True):
        assert np.array_equal(model(ids, cache), watched)


@pytest.mark.parametrize("name", ["llama", "deepseek_v3", "mixtral", "t5", "whisper"])
def test_every_place_is_listed_and_nothing_else(name):
    """`watch` refuses patterns by this list: it must be what a run shows."""
    config = make_config(Facts(FILE, json.loads(FILE.read_text(encoding="utf-8"))[name]))
    model, source = make_model(config, "float32"), {}
    if config.encoder is not None:
        audio = config.encoder.audio
        source = {"encoder_ids": [1, 2, 3]} if audio is None else {"encoder_features": np.ones((audio.n_mels, 6))}
    with model.watch("*") as seen:
        model([1, 2], **source)
    assert set(seen) == set(list_places(config))


LATENT = {form: Latent(5, 7, 3, 4, 10, 1e-6, form) for form in ("reexpanded", "absorbed", "cached_expanded")}
KINDS = {
    "grouped": PRIMES,
    "windows": replace(PRIMES, layers=tuple(replace(kind, window=4) for kind in PRIMES.layers)),
    "sinks": replace(PRIMES, sinks=True),
    "capped": replace(PRIMES, score_cap=5.0),
    "alibi": replace(PRIMES, layers=(LayerKind(),) * 2, alibi=Alibi(6)),
    "learned": GPT2_LIKE,
    **{
        form: replace(PRIMES, n_kv_heads=6, latent=latent, layers=(LayerKind(rope=Rope(10000.0, 4)),) * 2)
        for form, latent in LATENT.items()
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_queries_keys_values_and_context_are_those_that_attention_multiplied(kind):
    """Scores and context follow from what was shown beside them, bit for bit, with and without a cache."""
    config = KINDS[kind]
    model = make_model(config, "float32")
    latent = config.latent
    scale = (10 if latent is None else latent.d_nope + latent.d_rope) ** -0.5
    cache = model.new_cache()
    for ids in (IDS[:9], IDS[9:10]):
        with model.watch("layers.*") as seen, model.count() as watched:
            logits = model(ids, cache)
        for layer in range(2):
            names = ("query", "key", "value", "scores", "probs", "context")
            q, k, v, scores, probs, context = (seen[f"layers.{layer}.{name}"] for name in names)
            assert np.array_equal(np.matmul(q, np.matrix_transpose(k[:, None])) * np.float32(scale), scores)
            assert np.array_equal(np.matmul(probs, v[:, None]), context)
            assert q.shape[:2] == (1, 6) if kind == "absorbed" else q.shape[0] == config.n_kv_heads
        again = model.new_cache()
        if len(ids) == 1:
            model(IDS[:9], again)
        with model.count() as alone:
            assert np.array_equal(model(ids, again), logits)
        assert watched.events == alone.events  # watching adds no product


def test_keys_that_were_shown_outlive_a_cropped_cache():
    """A cache overwrites rows that were cropped; what a watcher was shown stays."""
    model = make_model(PRIMES)
    cache = model.new_cache("static:16")
    with model.watch("layers.0.key", "layers.0.value") as seen:
        model(IDS[:8], cache)
    copies = {name: shown.copy() for name, shown in seen.items()}
    cache.crop(2)
    model(IDS[20:28], cache)
    assert all(np.array_equal(seen[name], copy) for name, copy in copies.items())
