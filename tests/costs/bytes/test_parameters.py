"""Parameters: published numbers, arrays in memory, every layer built one by one, and mixtures by hand."""

from collections import Counter
from dataclasses import fields, is_dataclass, replace
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings

import kvsim
from kvsim.blueprint import build_weights
from kvsim.config import Experts, LayerKind
from kvsim.costs.bytes.parameters import GROUPS, count_parameters, group_of, measure_parameters
from kvsim.costs.public.models import find_config
from tests.arrays.runs import ZOO
from tests.costs.claims.published import PARAMETERS
from tests.models import PRIMES, configs

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"
EXPERTS = Experts(count=5, chosen=2, d_ff=7, correction=True, d_shared=11, bias=True)


def build_all(config):
    """Names and sizes of every array of every layer."""
    found = {}
    build_weights(config, lambda name, shape: found.__setitem__(name, prod(shape)))
    return found


def arrays_of(weights):
    """Every array that hangs on `weights`."""
    if is_dataclass(weights):
        for field in fields(weights):
            yield from arrays_of(getattr(weights, field.name))
    elif isinstance(weights, tuple):
        for part in weights:
            yield from arrays_of(part)
    elif weights is not None:
        yield weights


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_numbers_of_parameters(name):
    assert count_parameters(find_config(name)[1]) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir() if (path / "config.json").exists()))
def test_what_a_loaded_model_holds(name):
    """Numbers in the arrays of a model read from files, an array that hangs at two places once."""
    model = kvsim.load(FIXTURES / name)
    held = {array.__array_interface__["data"][0]: array.size for array in arrays_of(model.weights)}
    assert count_parameters(model.config) == sum(held.values())


@settings(max_examples=80)
@given(config=configs())
def test_any_model_is_the_sum_over_its_layers(config):
    """As many as if every layer were built by itself, and each array in one group."""
    built = build_all(config)
    measured = measure_parameters(config)
    assert measured.total == sum(built.values())
    by_group = Counter()
    for name, size in built.items():
        by_group[group_of(name)] += size
    assert {group: size for group, size in measured.groups.items() if size} == dict(by_group)


@pytest.mark.parametrize("name", ZOO)
def test_every_family_is_the_sum_over_its_layers(name):
    built = build_all(ZOO[name])
    if ZOO[name].encoder is not None and ZOO[name].encoder.audio is None:
        assert built["encoder.tokens"] == built["tokens"]
        del built["encoder.tokens"]
    measured = measure_parameters(ZOO[name])
    assert measured.total == sum(built.values())
    assert set(measured.groups) == set(GROUPS)
    norms = sum(size for array, size in built.items() if "norm" in array)
    assert measured.groups["norms"] == norms


def test_groups_by_hand():
    """PRIMES: D=13, H=6, G=3, K=10, F=17, V=101, two layers."""
    layer_attention = (6 * 10 + 3 * 10 + 3 * 10) * 13 + 13 * 6 * 10
    assert measure_parameters(PRIMES).groups == {
        "embeddings": 101 * 13,
        "attention": 2 * layer_attention,
        "feed_forward": 2 * 3 * 13 * 17,
        "experts": 0,
        "norms": 5 * 13,
        "head": 101 * 13,
    }
    tied = measure_parameters(replace(PRIMES, tied_head=True))
    assert tied.groups["head"] == 0
    assert tied.total == measure_parameters(PRIMES).total - 101 * 13
    assert measure_parameters(PRIMES).without_embeddings == tied.without_embeddings


def test_a_mixture_by_hand():
    """Two dense layers and a mixture of five experts, of which a token meets two."""
    config = replace(PRIMES, n_layers=3, layers=(*PRIMES.layers, LayerKind(experts=EXPERTS)))
    expert = 3 * 13 * 7 + 7 + 7 + 13
    shared = 3 * 13 * 11
    measured = measure_parameters(config)
    assert measured.groups["experts"] == 5 * expert + shared + (5 * 13 + 5) + 5
    assert measured.groups["feed_forward"] == 2 * 3 * 13 * 17
    assert measured.total - measured.active == 3 * expert
    assert measured.without_embeddings - measured.active_without_embeddings == 3 * expert
    assert measured.total - measured.without_embeddings == 2 * 101 * 13


@pytest.mark.parametrize(
    ("name", "active", "width"),
    [
        # 46,702,792,704 less 6 of 8 experts of 3 · 4096 · 14336 in 32 layers; "12.9B" (arXiv:2401.04088)
        ("mixtral-8x7b-v0.1", 12_879_925_248, 32_000 * 4_096),
        # 120 of 128 experts of 3 · 2048 · 768 in 48 layers sit out
        ("qwen3-30b-a3b", 30_532_122_624 - 120 * 48 * 3 * 2_048 * 768, 151_936 * 2_048),
        # 248 of 256 experts of 3 · 7168 · 2048 in 58 layers sit out
        ("deepseek-v3", 671_026_419_200 - 248 * 58 * 3 * 7_168 * 2_048, 129_280 * 7_168),
        ("llama-2-7b-hf", 6_738_415_616, 32_000 * 4_096),
    ],
)
def test_active_parameters(name, active, width):
    """`width`: the token table, as large as the head."""
    measured = measure_parameters(find_config(name)[1])
    assert (measured.active, measured.active_without_embeddings) == (active, active - 2 * width)


def test_rounded_figures_of_model_cards():
    """3.3B active and 29.9B without embeddings (Qwen3-30B-A3B), 37B active (DeepSeek-V3)."""
    qwen = measure_parameters(find_config("qwen3-30b-a3b")[1])
    assert round(qwen.without_embeddings / 1e9, 1) == 29.9
    assert 3.3 <= qwen.active / 1e9 < 3.4
    assert 37 <= measure_parameters(find_config("deepseek-v3")[1]).active / 1e9 < 38


def test_an_array_that_nobody_knows_is_not_put_anywhere():
    with pytest.raises(KeyError):
        group_of("layers.0.surprise.weight")
    with pytest.raises(KeyError):
        group_of("surprise")


def test_counting_is_fast_for_many_layers():
    """One layer of each kind is built, whatever their number: 10,000 of them as fast as 3."""
    config = replace(PRIMES, n_layers=10_000, layers=PRIMES.layers[:1] * 10_000)
    assert count_parameters(config) - count_parameters(PRIMES) == 9_998 * measured_layer(PRIMES)


def measured_layer(config):
    return sum(size for name, size in build_all(config).items() if name.startswith("layers.0."))
