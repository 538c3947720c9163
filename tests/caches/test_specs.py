"""Specs: parsing, printing, what is refused, and that only a policy that is used is imported."""

import subprocess
import sys

import pytest

from kvsim.caches.base import describe
from kvsim.caches.dynamic import DynamicLayer
from kvsim.caches.specs import POLICIES, find_policy, list_examples, parse_spec
from kvsim.errors import UsageError
from tests.models import PRIMES, demo, make_model


@pytest.mark.parametrize("spec", ["none", "dynamic", "static:4096", "static:1"])
def test_a_spec_prints_back(spec):
    assert make_model(PRIMES).new_cache(spec).spec == spec
    assert parse_spec(spec)[0] in POLICIES


def test_examples_name_every_policy():
    assert [parse_spec(example)[0] for example in list_examples()] == list(POLICIES)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lru", "unknown cache 'lru': use one of none, dynamic, static:4096"),
        ("", "unknown cache ''"),
        ("dynamic:4", "the cache dynamic takes no size"),
        ("none:", "the cache none takes no size"),
        ("static", "needs its size in tokens"),
        ("static:0", "at least 1"),
        ("static:-3", "needs its size"),
        ("static:4.5", "needs its size"),
        ("static:４", "needs its size"),
        ("static:1000000000000000", "needs 960000000000000000 bytes, more than can be allocated"),
        ("static:1000000000000000000000000", "static must be at most 1000000000000000000, got '10000"),
        ("sinks:4+9999999999999999999", "sinks must be at most 1000000000000000000"),
        ("int8:group=9999999999999999999", "group must be at most 1000000000000000000"),
        ("offload:" * 2_000 + "dynamic", "of a policy that contains another one, and cannot be contained itself"),
        (None, "unknown cache None"),
        (4, "unknown cache 4"),
    ],
)
def test_a_wrong_spec_is_refused(spec, said):
    with pytest.raises(UsageError) as caught:
        make_model(PRIMES).new_cache(spec)
    assert said in str(caught.value)


def test_a_class_can_be_a_policy(monkeypatch):
    class Own(DynamicLayer):
        example = "own"

    monkeypatch.setitem(POLICIES, "own", Own)
    assert find_policy("own") is parse_spec("own").policy is Own
    assert type(make_model(PRIMES).new_cache("own").layers[0]) is Own


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ('from kvsim.cli import run; run(["trace", "中华人民"])', ["dynamic", "none"]),  # with and without a cache
        (
            'import kvsim; kvsim.generate(kvsim.load("demo"), [5], 2, cache="offload:window:5")',
            ["offload", "window"],
        ),
    ],
)
def test_only_the_policies_in_use_are_imported(code, imported):
    modules = {entry.partition(":")[0] for entry in POLICIES.values()}
    code += f"; import sys; print(*sorted(m for m in {modules} if f'kvsim.caches.{{m}}' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[-1].split() == imported


def test_a_long_description_is_cut():
    model = demo()
    line = describe("Cache", "offload:" * 40, model.config, model.ops, "tokens " * 60)
    assert len(line) == 200
    assert line.endswith("...>")
