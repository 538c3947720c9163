"""`kvsim caches`: what a token costs is what a cache that has seen some holds for each."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.caches.specs import POLICIES, find_policy, parse_spec
from kvsim.caches.window import WindowLayer
from kvsim.costs.bytes.policies import list_policies
from kvsim.costs.public.models import read_catalogue
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from kvsim.i18n.language import words
from kvsim.loading.small_models import read_small_models
from kvsim.views.terminal.caches import tell_policies
from tests.models import PRIMES, make_model

SCHEMA = json.loads((Path(kvsim.__file__).parent / "schemas" / "caches-1.json").read_text(encoding="utf-8"))
FULL = ("none", "dynamic", "static", "window")


@pytest.mark.parametrize("name", read_small_models())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_those_of_rows_that_are_held(name, dtype):
    """Three tokens: no window has let go of any but those of two."""
    config = read_small_models()[name]
    model = make(config, "numpy", dtype)
    facts = {fact.name: fact for fact in list_policies(config, dtype).facts}
    for policy in FULL:
        cache = model.new_cache({"static": "static:7"}.get(policy, find_policy(policy).example))
        before = sum(layer.logical_bytes for layer in cache.layers)
        model(IDS[:2], cache, **source_of(config))
        held = sum(layer.logical_bytes for layer in cache.layers)
        assert before == 0
        if all(kind.window is None or kind.window > 2 for kind in config.layers):
            assert held == 2 * facts[policy].row_bytes, policy


def test_the_check_is_not_skipped_for_all():
    free = [n for n, c in read_small_models().items() if all(k.window is None or k.window > 2 for k in c.layers)]
    assert len(free) > 50


def test_public_models():
    def size(model, dtype, policy="dynamic"):
        return next(f.row_bytes for f in list_policies(model, dtype).facts if f.name == policy)

    assert size("llama-3.1-405b", "bfloat16") == 2 * 126 * 8 * 128 * 2
    assert size("deepseek-v3", "bfloat16") == 61 * (512 + 64) * 2
    assert size("demo", "float32", "none") == 0
    for name in read_catalogue():
        jsonschema.validate(list_policies(name, "bfloat16").to_dict(), SCHEMA)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    told = list_policies().to_dict()
    assert [policy["name"] for policy in told["policies"]] == list(POLICIES)
    told["policies"][0]["bytes_per_token"] = 512
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, SCHEMA)


def test_loss_is_that_of_the_model():
    windowed = replace(PRIMES, layers=tuple(replace(kind, window=200) for kind in PRIMES.layers))
    for config, lossless in ((PRIMES, False), (windowed, True)):
        assert {f.name: f.lossless for f in list_policies(config).facts}["window"] is lossless


class Halves(WindowLayer):
    """Rows in a quarter of their bytes, and a scale that three tokens share; no model whose layers all have windows."""

    example = "halves:4"
    takes_windows = False

    @classmethod
    def row_bytes(cls, ops, shape, options):
        return Fraction(shape.row_bytes(ops), 4) + Fraction(4, 3)

    @classmethod
    def check(cls, spec, config, ops, options):
        if all(kind.window for kind in config.layers):
            raise UsageError("unknown cache {spec}: use one of {known}", spec=spec, known="-")


def test_each_layer_is_asked_and_fractions_are_exact(monkeypatch):
    monkeypatch.setitem(POLICIES, "halves", Halves)
    row = 3 * 2 * 10 * 4
    policies = list_policies(replace(PRIMES, layers=(replace(PRIMES.layers[0], window=4), PRIMES.layers[1])))
    assert policies.facts[-1].row_bytes == row + Fraction(row, 4) + Fraction(4, 3)
    assert policies.to_dict()["policies"][-1]["bytes_per_token"] == {"numerator": 904, "denominator": 3}
    assert " 904/3 " in tell_policies(policies, words("en"))


def test_a_model_that_a_policy_does_not_fit(monkeypatch):
    monkeypatch.setitem(POLICIES, "halves", Halves)
    windowed = replace(PRIMES, layers=tuple(replace(kind, window=3) for kind in PRIMES.layers))
    policies = list_policies(windowed)
    assert policies.facts[-1].row_bytes is None
    jsonschema.validate(policies.to_dict(), SCHEMA)
    assert tell_policies(policies, words("en")).splitlines()[-1] == ("halves:4: unknown cache halves:4: use one of -")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("nothing",), "no model 'nothing' in the catalogue"), (("demo", "int3"), "unknown dtype 'int3'")],
)
def test_what_is_refused(arguments, said):
    with pytest.raises(UsageError) as caught:
        list_policies(*arguments)
    assert said in str(caught.value)


def held(cache):
    return sum(layer.logical_bytes + layer.metadata_bytes for layer in cache.layers)


def bytes_of(spec, model):
    policy, options = parse_spec(spec).policy, parse_spec(spec).options
    shape = model.new_cache(spec).layers[0].shape
    return PRIMES.n_layers * policy.row_bytes(model.ops, shape, options)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize(
    "spec", ["int8:group=5,residual=3", "int4:group=5,residual=3,zero", "int8:group=5,residual=3,head"]
)
def test_a_quantised_row_costs_what_one_more_group_adds(spec, dtype):
    model = make_model(PRIMES, dtype)
    cache, sizes = model.new_cache(spec), []
    for i in range(18):
        model([i], cache)
        sizes.append(held(cache))
    assert sizes[17] - sizes[12] == 5 * bytes_of(spec, model)
    assert bytes_of(spec, model) < bytes_of("dynamic", model)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("spec", ["h2o:4", "knorm:4", "snapkv:4"])
def test_a_row_that_was_not_let_go_costs_its_position_and_score(spec, dtype):
    model = make_model(PRIMES, dtype)
    cache = model.new_cache(spec)
    model(list(range(9)), cache)
    assert held(cache) == 4 * bytes_of(spec, model)
