"""`sinks:S+W`: the first tokens and the last, numbered inside the cache; for each query, however tokens are fed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.caches.specs import parse_spec
from kvsim.config import Rope
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.spans import Span
from kvsim.transformer.rotary import depends_on_length
from tests.arrays.runs import ZOO, backend_of
from tests.caches.common import TURNING, assert_close, random_ids
from tests.caches.plain import Plain
from tests.models import CLOSE, GPT2_LIKE, PRIMES, configs, cuts, make_model
from tests.transformer.test_split_invariance import feed


@pytest.mark.parametrize("spec", ["sinks:4+252", "sinks:1+1"])
def test_a_spec_prints_back(spec):
    assert str(parse_spec(spec)) == spec == make_model(PRIMES).new_cache(spec).spec


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sinks", "each at least 1, as in sinks:4+252, not 'sinks'"),
        ("sinks:4", "each at least 1, as in sinks:4+252, not 'sinks:4'"),
        ("sinks:4+0", "each at least 1, as in sinks:4+252, not 'sinks:4+0'"),
        ("sinks:0+0", "each at least 1"),
        ("sinks:4+4+4", "each at least 1"),
        ("sinks:-4+4", "each at least 1"),
        ("sinks:0+8", "the cache 'sinks:0+8' has no sinks: use window:8"),
    ],
)
def test_a_wrong_spec_is_refused(spec, said):
    with pytest.raises(UsageError) as caught:
        make_model(PRIMES).new_cache(spec)
    assert said in str(caught.value)


def test_learned_positions_are_refused():
    with pytest.raises(UsageError, match="are added to the embeddings before there are keys: use window:6"):
        make_model(GPT2_LIKE).new_cache("sinks:2+4")


# By hand


def numbered(keys, values, span):
    """Instead of turning a key: 100 for every position."""
    return keys + 100.0 * np.arange(span.start, span.stop)[:, None], values


def new_rows(start, stop):
    column = np.arange(float(start), float(stop)).reshape(1, -1, 1)
    return column, -column


def told(view):
    return view.keys[0, :, 0].tolist(), view.values[0, :, 0].tolist(), view.key_pos, view.query_pos


def one_layer():
    config = replace(PRIMES, n_layers=1, layers=PRIMES.layers[:1], n_heads=1, n_kv_heads=1, d_head=1)
    config = replace(config, layers=(replace(config.layers[0], rope=None),))
    return make_model(config).new_cache("sinks:1+2").layers[0]


def test_worked_by_hand():
    """One sink and a window of two; the key of token p is p, and every position inside adds 100."""
    layer = one_layer()
    steps = [layer.update(*new_rows(p, p + 1), Span(p, p + 1), numbered) for p in range(5)]
    assert [len(views) for views in steps] == [1] * 5
    views = [view for (view,) in steps]
    assert told(views[0]) == ([0], [0], Span(0, 1), Span(0, 1))
    assert told(views[1]) == ([0, 101], [0, -1], Span(0, 2), Span(1, 2))
    assert told(views[2]) == ([0, 101, 202], [0, -1, -2], Span(0, 3), Span(2, 3))
    assert told(views[3]) == ([0, 102, 203], [0, -2, -3], Span(0, 3), Span(2, 3))
    assert told(views[4]) == ([0, 103, 204], [0, -3, -4], Span(0, 3), Span(2, 3))
    assert all(view.queries == slice(0, 1) for view in views)
    assert layer.keys[0, :, 0].tolist() == [0, 4]  # as they came: the sink, and what the window keeps for the next


def test_a_step_of_several_tokens_by_hand():
    """The same, fed as 2 and 3 tokens: those that see all are one part, every later query is one of its own."""
    layer = one_layer()
    assert [view.queries for view in layer.update(*new_rows(0, 2), Span(0, 2), numbered)] == [slice(0, 2)]
    views = layer.update(*new_rows(2, 5), Span(2, 5), numbered)
    assert [view.queries for view in views] == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert told(views[0]) == ([0, 101, 202], [0, -1, -2], Span(0, 3), Span(2, 3))
    assert told(views[1]) == ([0, 102, 203], [0, -2, -3], Span(0, 3), Span(2, 3))
    assert told(views[2]) == ([0, 103, 204], [0, -3, -4], Span(0, 3), Span(2, 3))
    layer = one_layer()
    views = layer.update(*new_rows(0, 5), Span(0, 5), numbered)
    assert [view.queries for view in views] == [slice(0, 3), slice(3, 4), slice(4, 5)]
    assert told(views[0]) == ([0, 101, 202], [0, -1, -2], Span(0, 3), Span(0, 3))


def test_one_head_of_one_layer_by_hand():
    """Two elements a head, which turn by one radian a position: the probabilities of the sixth token."""
    config = replace(
        PRIMES,
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        d_head=2,
        layers=(replace(PRIMES.layers[0], rope=Rope(10000.0, 2)),),
    )
    model = make_model(config)
    ids, attention = [3, 1, 4, 1, 5, 9], model.weights.layers[0].attention
    x = model.weights.tokens[ids]
    x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + config.norm_eps)
    x = x * model.weights.layers[0].attention_norms.before.gain
    queries, keys = x @ attention.query.weight.T, x @ attention.key.weight.T

    def score(inside, token):  # a product of turned vectors, by their lengths and the angle between them
        query, key = complex(*queries[5]), complex(*keys[token])
        angle = math.atan2(query.imag, query.real) + 4 - (math.atan2(key.imag, key.real) + inside)
        return abs(query) * abs(key) * math.cos(angle) / math.sqrt(2)

    weights = [math.exp(score(inside, token)) for inside, token in enumerate((0, 1, 3, 4, 5))]
    cache = model.new_cache("sinks:2+3")
    model(ids[:5], cache)
    with model.watch("layers.0.probs") as seen:
        model(ids[5:], cache)
    assert seen["layers.0.probs"][0, 0, 0] == pytest.approx([w / sum(weights) for w in weights], abs=1e-14)


# Against plain loops


@pytest.mark.parametrize("config", [PRIMES, TURNING], ids=["slow", "fast"])
@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 4), (4, 1), (3, 5), (2, 30)])
def test_against_plain_loops(config, first, last):
    model, ids = make_model(config), random_ids(config, 18)
    wanted = Plain(model).run_sinks(ids, first, last)
    for sizes in ([1] * 18, [18], [7, 1, 1, 4, 5], [2, 16]):
        assert_close(feed(model, model.new_cache(f"sinks:{first}+{last}"), ids, sizes), wanted)


def one_layered(config):
    kinds = (replace(config.layers[0], window=None),)
    return replace(config, n_layers=1, layers=kinds)


def assert_each_query_is_a_text_of_its_own(model, first, last, ids, **source):
    """In one layer keys are made of tokens alone: a query sees what it would see in the text of its tokens alone."""
    logits = feed_source(model, f"sinks:{first}+{last}", ids, source)
    for p in range(len(ids)):
        seen = [i for j, i in enumerate(ids[: p + 1]) if j < first or p - j < last]
        whole = model(seen, **source)[-1]
        assert np.abs(logits[p] - whole).max() <= CLOSE["float64"] * np.abs(whole).max()


def feed_source(model, spec, ids, source):
    cache = model.new_cache(spec)
    parts = [model(ids[:7], cache, **source)] + [model([i], cache) for i in ids[7:9]]
    return np.concatenate([*parts, model(ids[9:], cache)])


@pytest.mark.parametrize("name", [name for name, config in ZOO.items() if not config.learned_positions])
def test_every_family(name):
    """ALiBi, T5's buckets, latents, rotary positions that depend on the length: all by the positions inside."""
    config = one_layered(ZOO[name])
    if any(kind.rope and depends_on_length(kind.rope) for kind in config.layers):
        kinds = [replace(kind, rope=replace(kind.rope, original=5)) for kind in config.layers]
        config = replace(config, layers=tuple(kinds))
        assert_each_query_is_a_text_of_its_own_token_by_token(make(config, "numpy", "float64"))
        return
    assert_each_query_is_a_text_of_its_own(make(config, "numpy", "float64"), 2, 4, IDS, **source_of(config))


def assert_each_query_is_a_text_of_its_own_token_by_token(model):
    """Frequencies go by the length inside; a longer step would give its early queries the step's own length."""
    logits = feed(model, model.new_cache("sinks:2+5"), IDS, [1] * len(IDS))
    for p in range(len(IDS)):
        seen = [i for j, i in enumerate(IDS[: p + 1]) if j < 2 or p - j < 5]
        whole = model(seen)[-1]
        assert np.abs(logits[p] - whole).max() <= CLOSE["float64"] * np.abs(whole).max()


@pytest.mark.parametrize("form", ["reexpanded", "absorbed", "cached_expanded"])
@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3_yarn"])
def test_forms_of_latent_attention(name, form):
    config = replace(ZOO[name], latent=replace(ZOO[name].latent, form=form))
    assert_each_query_is_a_text_of_its_own(make(one_layered(config), "numpy", "float64"), 2, 4, IDS)
    forms = [replace(config, latent=replace(config.latent, form=f)) for f in (form, "reexpanded")]
    models = [make(f, "numpy", "float64") for f in forms]
    one, other = (feed(model, model.new_cache("sinks:1+5"), IDS, [7, 1, 4]) for model in models)
    assert_close(one, other)


# However tokens are fed


def without_learned(config):
    return replace(config, learned_positions=False)


@settings(max_examples=80)
@given(config=configs(), data=st.data(), first=st.integers(1, 4), last=st.integers(1, 6))
def test_any_cut_of_any_model(config, data, first, last):
    model = make_model(without_learned(config))
    length = data.draw(st.integers(1, 16))
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=length, max_size=length))
    spec = f"sinks:{first}+{last}"
    once = feed(model, model.new_cache(spec), ids, [length])
    split = feed(model, model.new_cache(spec), ids, data.draw(cuts(length)))
    assert_close(split, once)
    fits = ids[: first + last]
    assert_close(once[: len(fits)], model(fits))


@settings(max_examples=10)
@given(data=st.data())
def test_bit_for_bit_where_sums_have_an_order(data):
    model = Model(TURNING, random_weights(TURNING), backend="exact", dtype="float32")
    ids = random_ids(TURNING, 14)
    once = feed(model, model.new_cache("sinks:2+4"), ids, [14])
    assert np.array_equal(feed(model, model.new_cache("sinks:2+4"), ids, data.draw(cuts(14))), once)
    assert np.array_equal(once[:6], model(ids[:6]))
    assert not np.array_equal(once[6], model(ids[:7])[6])


def test_blocked_attention_is_the_same():
    model = make_model(TURNING)
    blocked = Model(TURNING, random_weights(TURNING), dtype="float64", attention="blocked")
    blocked.ops.query_block = 3
    ids = random_ids(TURNING, 14)
    wanted = feed(model, model.new_cache("sinks:2+7"), ids, [8, 6])
    assert_close(feed(blocked, blocked.new_cache("sinks:2+7"), ids, [8, 6]), wanted)


@pytest.mark.parametrize("backend", ["strict", "exact", pytest.param("torch", marks=pytest.mark.dev)])
@pytest.mark.parametrize("config", [TURNING, ZOO["deepseek_v2"]], ids=["rope", "latent"])
def test_backends(config, backend):
    there, here = (
        Model(config, random_weights(config), backend=b, dtype="float64") for b in (backend_of(backend), None)
    )
    caches = there.new_cache("sinks:2+4"), here.new_cache("sinks:2+4")
    start = 0
    for size in (5, 1, 4, 1):
        new = IDS[start : start + size]
        assert_close(there.ops.backend.to_host(there(new, caches[0])), here(new, caches[1]))
        start += size
    forked = caches[0].fork()
    assert_close(there.ops.backend.to_host(there([1], forked)), here([1], caches[1]))


def test_shapes_alone_have_the_same_ledger():
    ledgers = []
    for backend in ("meta", "numpy"):
        model = Model(PRIMES, random_weights(PRIMES), backend=backend, dtype="float32")
        cache = model.new_cache("sinks:2+4")
        with model.count() as ledger:
            for size in (5, 1, 6, 1):
                model(IDS[:size], cache)
        ledgers.append(ledger.events)
    assert ledgers[0] == ledgers[1]


def test_the_ledger_counts_what_each_query_sees():
    model = make_model(PRIMES)
    cache = model.new_cache("sinks:2+4")
    with model.count() as ledger:
        model(IDS[:9], cache)
        model(IDS[9:10], cache)
    assert ledger.useful_cells(0) == 1 + 2 + 3 + 4 + 5 + 6 + 6 + 6 + 6 + 6
    assert ledger.score_cells(0) == 6 * 6 + 4 * 6
