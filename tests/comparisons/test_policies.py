"""`kvsim.compare`: every number against a run by hand and plain Python sums."""

import json
import math
import weakref
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.caches.specs import POLICIES, find_policy, list_examples, parse_spec
from kvsim.comparisons import policies as policy_comparison
from kvsim.comparisons.policies import choose_caches, compare_rows
from kvsim.errors import KvsimError, UsageError
from kvsim.generation.plan import plan_stops
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.comparisons.test_trace import Forgetful
from tests.models import CLOSE, PRIMES, demo, make_model

SCHEMA = json.loads((Path(kvsim.__file__).parent / "schemas" / "compare-1.json").read_text(encoding="utf-8"))
TEXT = "床前明月光，疑是地上霜。举头望明月"


def divergence(p_logits, q_logits):
    """KL(p || q) in nats by plain sums."""

    def log_probs(logits):
        largest = max(logits)
        total = math.log(math.fsum(math.exp(x - largest) for x in logits))
        return [x - largest - total for x in logits]

    pairs = list(zip(log_probs(p_logits), log_probs(q_logits), strict=True))
    return math.fsum(math.exp(p) * (p - q) for p, q in pairs)


@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 30.0]))
def test_rows_are_plain_sums(length, vocabulary, seed, scale):
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=(length, vocabulary)) * scale
    got = wanted + rng.normal(size=wanted.shape) * scale
    for row, p, q in zip(compare_rows(wanted, got), wanted.tolist(), got.tolist(), strict=True):
        assert row.divergence == pytest.approx(divergence(p, q), rel=1e-9, abs=1e-12)
        assert row.difference == max(abs(a - b) for a, b in zip(p, q, strict=True))
        assert row.choice == q.index(max(q))
        assert row.same == (p.index(max(p)) == q.index(max(q)))


def test_a_divergence_known_by_hand():
    """KL((1/2, 1/2) || (1/4, 3/4)), and with the arguments swapped, which gives another number."""
    half, quarter = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    assert compare_rows(half, quarter)[0].divergence == pytest.approx(math.log(4 / 3) / 2, rel=1e-12)
    assert compare_rows(quarter, half)[0].divergence == pytest.approx(math.log(27 / 16) / 4, rel=1e-12)
    assert compare_rows(half, half + 7.0)[0][1:] == (0.0, 0, True)  # logits have no zero; ties go to the smaller id


def test_long_vocabularies_are_compared_row_by_row(monkeypatch):
    wanted, got = np.random.default_rng(0).normal(size=(2, 11, 7))
    whole = compare_rows(wanted, got)
    for size in (1, 7, 21, 76):
        monkeypatch.setattr(policy_comparison, "_AT_ONCE", size)
        assert compare_rows(wanted, got) == whole


def by_hand(model, spec, ids, stops):
    """Logits [T, V] of every position and all products, one step after the other; and the cache."""
    cache, rows, at = model.new_cache(spec), [], 0
    with model.count() as ledger:
        for stop in stops:
            out = model(ids[cache.seen : stop], cache)
            rows.append(out[len(out) - (stop - at) :])
            at = stop
    return np.concatenate(rows).astype(np.float64), ledger, cache


@settings(max_examples=30)
@given(
    length=st.integers(1, 12), new=st.integers(1, 5), feed=st.sampled_from(["token", "prefill", "chunk:3"]),
    seed=st.integers(0, 3), dtype=st.sampled_from(["float64", "float32"]),
)  # fmt: skip
def test_every_number_equals_that_of_runs_by_hand(length, new, feed, seed, dtype):
    model = make_model(PRIMES, dtype, seed)
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, PRIMES.vocab_size, length)]
    specs = ["none", "static:20", "window:1", "window:4"]
    found = kvsim.compare(ids, model, specs, new, feed)
    new_ids = [piece.id for piece in found.new]
    assert len(new_ids) == new
    whole, stops = [*ids, *new_ids], plan_stops(length, new, feed)
    wanted, ledger, held = by_hand(model, "dynamic", whole, stops)
    assert found.reference.counts.macs == ledger.macs
    assert found.reference.logical_bytes == held.logical_bytes
    assert found.largest_logit == np.abs(wanted).max()
    assert new_ids == [int(i) for i in wanted[length - 1 :].argmax(-1)]
    assert [run.cache for run in found.runs] == specs
    for run in found.runs:
        got, ledger, held = by_hand(model, run.cache, whole, stops)
        assert run.counts.macs == ledger.macs
        assert run.counts.score_cells == ledger.score_cells()
        assert run.counts.projected_rows == ledger.projected_rows()
        assert (run.logical_bytes, run.allocated_bytes, run.metadata_bytes) == (
            held.logical_bytes, held.allocated_bytes, held.metadata_bytes,
        )  # fmt: skip
        kl = [divergence(p, q) for p, q in zip(wanted.tolist(), got.tolist(), strict=True)]
        same = wanted.argmax(-1) == got.argmax(-1)
        for closeness, rows in ((found.all_of(run), slice(None)), (found.new_of(run), slice(length - 1, None))):
            assert closeness.positions == len(kl[rows])
            assert closeness.same_choices == int(same[rows].sum())
            assert closeness.mean_divergence == pytest.approx(sum(kl[rows]) / len(kl[rows]), rel=1e-9, abs=1e-13)
            assert closeness.largest_divergence == pytest.approx(max(kl[rows]), rel=1e-9, abs=1e-13)
            assert closeness.max_abs_diff == np.abs(wanted - got)[rows].max()
        assert run.first_change == (None if same.all() else int(np.argmin(same)) + 1)
    lossless = [run for run in found.runs if run.lossless]
    assert [run.cache for run in lossless] == ["none", "static:20"]
    for run in lossless:
        assert run.agrees
        assert found.relative(found.all_of(run).max_abs_diff) <= CLOSE[dtype]
    jsonschema.validate(json.loads(found.to_json()), SCHEMA)


def test_a_window_differs_as_much_as_the_model_with_that_window():
    ids = [int(i) for i in np.random.default_rng(5).integers(0, PRIMES.vocab_size, 14)]
    model = make_model(PRIMES)
    layers = tuple(replace(kind, window=3) for kind in PRIMES.layers)
    narrow = Model(replace(PRIMES, layers=layers), random_weights(PRIMES), dtype="float64")
    found = kvsim.compare(ids, model, "window:3", 1, "chunk:4")
    wanted, got = model(ids), narrow(ids)
    expected = np.abs(wanted - got).max()
    assert expected > 1e-3 * np.abs(wanted).max()
    assert found.all_of(found.runs[0]).max_abs_diff == pytest.approx(expected, rel=1e-9)


def test_nothing_differs_where_every_sum_adds_in_one_order():
    found = kvsim.compare(TEXT, "demo", ["none", "static:64", "window:64"], 3, "chunk:5", backend="exact")
    for run in found.runs:
        assert run.agrees
        assert {row[:2] for row in run.rows} == {(0.0, 0.0)}
        assert run.first_change is None


def test_the_reference_alone_and_specs_given_twice():
    found = kvsim.compare(TEXT, demo(), ["dynamic", "window:4", "dynamic", "window:4"], 2)
    assert found.reference.cache == "dynamic"
    assert [run.cache for run in found.runs] == ["window:4"]
    alone = kvsim.compare(TEXT, demo(), ["dynamic"], 2)
    assert alone.runs == ()
    assert alone.largest_logit == found.largest_logit > 1.0
    jsonschema.validate(json.loads(alone.to_json()), SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_refuses_missing_fields():
    record = kvsim.compare(TEXT, demo(), ["window:4"], 2).to_dict()
    for path in (("reference", "counts", "macs"), ("policies", 0, "all", "relative_diff"), ("policies", 0, "rows")):
        copy = json.loads(json.dumps(record))
        place = copy
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(copy, SCHEMA)


def test_the_examples_of_lossy_policies_are_the_default(monkeypatch):
    class Picky(find_policy("window")):
        example = "picky"

        @classmethod
        def check(cls, spec, config, ops, options):
            raise UsageError("no")

        @classmethod
        def read_options(cls, name, text):
            return 4

    monkeypatch.setitem(POLICIES, "picky", Picky)
    lossy = [spec for spec in list_examples() if not parse_spec(spec).policy.lossless and spec != "picky"]
    assert set(choose_caches(demo())) <= set(lossy)
    assert "window:256" in choose_caches(demo())
    windowed = replace(PRIMES, layers=tuple(replace(kind, window=3) for kind in PRIMES.layers))
    assert "window:256" not in choose_caches(make_model(windowed))  # no loss there


def test_a_cache_that_breaks_its_promise_is_found(monkeypatch):
    monkeypatch.setitem(POLICIES, "static", Forgetful)
    found = kvsim.compare(TEXT, demo(), ["none", "static"], 2, "token")
    assert [run.agrees for run in found.runs] == [True, False]
    assert not found.agrees


def test_one_bit_is_found_where_nothing_may_differ():
    """Where every sum adds in one order, no difference is allowed."""

    class Nearly(find_policy("static")):
        def update(self, keys, values, pos, encode):
            (view,) = super().update(keys, values, pos, encode)
            return (view._replace(values=view.values * (1.0 + 2.0**-52)),)

    model = Model(PRIMES, random_weights(PRIMES), dtype="float64", backend="exact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POLICIES, "static", Nearly)
        assert not kvsim.compare([1, 2, 3], model, "static:9", 2).agrees
    assert kvsim.compare([1, 2, 3], model, "static:9", 2).agrees


def test_positions_that_depend_on_the_length_are_reported():
    folder = Path(__file__).parent.parent / "fixtures" / "llama_dynamic_ntk"
    found = kvsim.compare([5, 6, 7, 8, 9, 10, 11], folder, "none", 6, "token", dtype="float64")
    assert found.by_length == "dynamic"
    assert not found.runs[0].agrees
    assert found.agrees
    jsonschema.validate(json.loads(found.to_json()), SCHEMA)


def test_logits_that_are_not_finite():
    weights = random_weights(PRIMES)
    loud = replace(weights, final_norm=replace(weights.final_norm, gain=weights.final_norm.gain * 1e38))
    with pytest.raises(KvsimError, match="not finite in float32"):
        kvsim.compare([1, 2, 3], Model(PRIMES, loud), "window:2", 2)


def test_few_logits_are_alive_at_a_time(monkeypatch):
    """While a cache's logits are computed only the reference's of the same step are held."""
    alive, most = weakref.WeakSet(), []
    call = Model.__call__

    class Kept(np.ndarray):
        """An array that weak references can refer to."""

    def watched(self, ids, cache=None, **options):
        most.append(sum(len(array) == 30 for array in alive))
        out = call(self, ids, cache, **options).view(Kept)
        alive.add(out)
        return out

    Kept.__hash__ = object.__hash__
    Kept.__eq__ = object.__eq__
    monkeypatch.setattr(Model, "__call__", watched)
    kvsim.compare(list(range(30)), make_model(PRIMES), ["static:40", "window:4", "window:5", "window:6"], 2)
    assert most[:5] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", "demo", "window:4"), "the text is empty"),
        (("中", "demo", "lru"), "unknown cache 'lru'"),
        (("中", "demo", ["window:4", 3]), "unknown cache 3"),
        (("中", "demo", "window:4", 0), "at least 1, got 0"),
        (("中" * 1025, "demo", "window:4", 1), "a context of 1024 tokens"),
        (("中华人民", "demo", "static:6", 4), "static cache holds 6 tokens, asked for 7"),
        (("中", "demo", "window:4", 4, "all"), "unknown feed 'all'"),
        (("中", "nothing", "window:4"), "no model 'nothing'"),
    ],
)
def test_refused_arguments(arguments, said):
    with pytest.raises(UsageError) as caught:
        kvsim.compare(*arguments)
    assert said in str(caught.value)


def test_encoders_are_refused():
    from kvsim.doctor.against_numpy import make
    from kvsim.loading.small_models import read_small_models

    model = make(read_small_models()["bart"], "numpy", "float32")
    with pytest.raises(UsageError, match="compare supports no model with an encoder"):
        kvsim.compare([1], model)


def test_progress_is_reported():
    reported = []
    kvsim.compare(
        [1, 2, 3, 4], make_model(PRIMES), "window:2", 3, "chunk:2", progress=lambda *step: reported.append(step)
    )
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
