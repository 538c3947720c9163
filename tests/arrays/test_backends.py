"""The array-library abstraction: names, errors, the contract, and every family on every backend."""

import ast
from dataclasses import replace
from itertools import product
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import kvsim
from kvsim.arrays import contract, get_backend, meta
from kvsim.cli import run as command
from kvsim.doctor.against_numpy import ALLOWED, IDS, compare, feed, make, reference
from kvsim.errors import BackendError, UsageError
from kvsim.generation.sampling import Sampler
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import FIRST_OF_FAMILY, ZOO, backend_of, macs_by_site, open_strict
from tests.marks import case
from tests.models import CLOSE, GPT2_LIKE, PRIMES, make_model

PACKAGE = Path(kvsim.__file__).parent


def test_wrong_names():
    with pytest.raises(UsageError, match="unknown backend 'jax': use one of numpy, cupy, torch, exact, meta"):
        get_backend("jax")
    with pytest.raises(UsageError, match="numpy runs on the device cpu, not on 'cuda'"):
        get_backend("numpy", "cuda")
    with pytest.raises(UsageError, match="exact runs on the device cpu, not on 'cuda'"):
        get_backend("exact", "cuda")
    with pytest.raises(UsageError, match="meta runs on no device"):
        get_backend("meta", "cpu")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        get_backend("numpy").dtype("int8")


def test_the_environment_variable_is_the_default(monkeypatch, capsys):
    monkeypatch.setenv("KVSIM_BACKEND", "exact")
    assert kvsim.load("demo").backend == "exact"
    assert kvsim.load("demo", backend="numpy").backend == "numpy"
    assert command(["trace", "中", "--json"]) == 0
    assert '"backend": "exact"' in capsys.readouterr().out
    monkeypatch.setenv("KVSIM_BACKEND", "abacus")
    assert command(["trace", "中", "--lang", "en"]) == 2
    assert "unknown backend 'abacus'" in capsys.readouterr().err


def test_the_list_of_backends():
    assert kvsim.arrays.BACKENDS == ("numpy", "cupy", "torch", "exact", "meta")


# The contract


def names_called(tree):
    """Attributes read from a namespace called `xp`: xp.exp, ops.xp.exp, self.xp.exp."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            named = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if named == "xp":
                yield node.attr


def test_the_source_calls_all_of_the_contract_and_nothing_else():
    called = set()
    for file in PACKAGE.rglob("*.py"):
        called |= set(names_called(ast.parse(file.read_text(encoding="utf-8"))))
    promised = contract.FUNCTIONS | contract.DTYPES
    assert called - contract.OPTIONAL == promised
    assert list(names_called(ast.parse("self.xp.cumsum(x) + xp.pow(a)"))) == ["cumsum", "pow"]


@pytest.mark.parametrize("name", ["numpy", "strict", "exact", "meta"])
def test_namespaces_are_narrowed_to_the_contract(name):
    """A model that calls anything else then fails on every library, NumPy included."""
    xp = backend_of(name).xp
    assert set(vars(xp)) >= contract.FUNCTIONS | contract.DTYPES
    assert set(vars(xp)) <= contract.FUNCTIONS | contract.DTYPES | contract.OPTIONAL
    with pytest.raises(AttributeError):
        _ = xp.cumsum


def test_meta_arrays_have_the_contracts_attributes_and_no_others():
    own = {name for name in vars(meta.MetaArray) if callable(getattr(meta.MetaArray, name))}
    refused = {"__int__", "__float__", "__bool__", "__index__", "__array__", "__iter__", "__len__"}
    assert {name for name in own if name.startswith("__")} - {"__init__", "__repr__"} - refused == (
        contract.OPERATORS - refused
    )
    assert set(vars(meta.MetaArray)) >= contract.ATTRIBUTES
    with pytest.raises(TypeError):
        _ = meta.MetaArray((2,), "float32") ** 2
    with pytest.raises(AttributeError):
        _ = meta.MetaArray((2,), "float32").T


def test_the_folders_that_compute_do_not_import_numpy():
    """A NumPy scalar or array in an expression would promote float32 or fail on a device (`math.sqrt`, not
    `np.sqrt`)."""
    rooms = [PACKAGE / "ops.py", PACKAGE / "model.py", PACKAGE / "arrays" / "erf.py"]
    rooms += [file for room in ("transformer", "caches", "counting") for file in (PACKAGE / room).glob("*.py")]
    for file in rooms:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not {name.split(".")[0] for name in imported} & {"numpy", "cupy", "torch"}, file


# Every model; under `exact`, which shares all but its sums with numpy, the first of each family in one dtype. Every
# wider operand promotes float16, only float64 promotes float32: in that the first of each family without the extra dev.
PRODUCTS = [
    case(name, dtype, backend, id=f"{name}-{dtype}-{backend}", dev=dtype == "float32" and name not in FIRST_OF_FAMILY)
    for name, dtype, backend in product(ZOO, ("float32", "float16"), ("numpy", "exact", "meta"))
    if backend != "exact" or (dtype == "float16" and name in FIRST_OF_FAMILY)
]


@pytest.mark.parametrize(("name", "dtype", "backend"), PRODUCTS)
def test_every_product_is_in_the_models_dtype(name, dtype, backend, monkeypatch):
    """One wider operand would promote every product after it."""
    from kvsim.ops import Ops

    multiply, seen = Ops.matmul, set()

    def watched(self, kind, a, b, admitted=None):
        seen.update((a.dtype, b.dtype))
        return multiply(self, kind, a, b, admitted)

    monkeypatch.setattr(Ops, "matmul", watched)
    model = make(ZOO[name], backend, dtype)
    full, parts, _ = feed(model)
    wanted = model.ops.xp.empty((0,), dtype=model.ops.dtype).dtype
    assert {full.dtype, *seen, *(part.dtype for part in parts)} == {wanted}


# Every family


# Under `strict` every model in float64 (without the extra dev the first of each family), and the first of each family
# in float32 and under `exact`, of which tests/arrays/test_exact.py asks more.
COMPARED = [
    *(case(name, "float64", "strict", id=f"{name}-float64-strict", dev=name not in FIRST_OF_FAMILY) for name in ZOO),
    *(
        case(name, dtype, backend, id=f"{name}-{dtype}-{backend}", dev=False)
        for name in FIRST_OF_FAMILY
        for dtype, backend in (("float32", "strict"), ("float64", "exact"))
    ),
]


@pytest.mark.parametrize(("name", "dtype", "backend"), COMPARED)
def test_logits_ids_and_ledger_are_numpys(name, dtype, backend):
    compared = compare(name, ZOO[name], backend_of(backend), dtype)
    assert compared.agrees, compared


@pytest.mark.dev
@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", ZOO)
def test_torch(name, dtype):
    compared = compare(name, ZOO[name], "torch", dtype)
    assert compared.agrees, compared


@pytest.mark.dev
def test_torch_devices_and_dtypes(capsys):
    assert get_backend("torch").device.type == "cpu"
    model = make(ZOO["llama"], "torch", "bfloat16")
    wanted = reference(ZOO["llama"], "float64").full
    assert np.abs(model.ops.backend.to_host(model(IDS)) - wanted).max() <= 0.1 * np.abs(wanted).max()
    with pytest.raises(UsageError, match="unknown device 'abacus' of torch"):
        get_backend("torch", "abacus")
    with pytest.raises(BackendError, match="torch cannot use the device 'cuda:7'"):
        get_backend("torch", "cuda:7")
    assert command(["trace", "中", "--backend", "torch", "--device", "cuda", "--lang", "en"]) == 3
    assert command(["trace", "中", "--backend", "torch", "--device", "meta", "--lang", "en"]) == 3
    assert command(["trace", "中华", "--backend", "torch", "--dtype", "bfloat16", "-n", "2"]) == 0
    assert command(["trace", "中华", "--backend", "torch", "-n", "2"]) == 0
    assert "The difference is rounding" in capsys.readouterr().out


def test_a_comparison_can_fail():
    """`agrees` is false for a difference beyond the allowance, other ids, or another ledger."""
    config = ZOO["gpt2"]
    good = compare("gpt2", config, "numpy", "float64")
    assert good.agrees
    assert not good._replace(difference=2e-12).agrees
    assert not good._replace(same_ids=False).agrees
    assert not good._replace(same_ledger=False).agrees
    assert not compare("gpt2", replace(config, norm_eps=1e-3), "numpy", "float64").difference


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("config", [PRIMES, GPT2_LIKE], ids=["rope", "learned"])
@pytest.mark.parametrize("spec", ["none", "dynamic", "static:9"])
def test_caches_use_only_the_array_api(config, dtype, spec):
    strict, weights = open_strict(), random_weights(config)
    model = Model(config, weights, backend=strict, dtype=dtype)
    cache, kept = model.new_cache(spec), make_model(config, dtype).new_cache(spec)
    ids = [3, 1, 4, 1, 5, 9, 2]
    for stop in (4, 5, 7):
        new = ids[cache.seen : stop]
        got = strict.to_host(model(new, cache))
        expected = make_model(config, dtype)(new, kept)
        assert np.abs(got - expected).max() <= CLOSE[dtype] * np.abs(expected).max()
    assert cache.logical_bytes == kept.logical_bytes
    logits = model(ids)[-1, :]
    assert Sampler().choose(model.ops, logits, 7) == int(np.argmax(strict.to_host(logits)))
    assert 0 <= Sampler(1.0, 5, 0.9).choose(model.ops, logits, 7) < config.vocab_size


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_activations_use_only_the_array_api(activation):
    strict = open_strict()
    ops = Model(PRIMES, random_weights(PRIMES), backend=strict, dtype="float64").ops
    x = array_api_strict.asarray([-3.0, -0.5, 0.0, 0.7, 9.0], device=ops.device)
    mine = make_model(PRIMES).ops.activate(activation, np.array([-3.0, -0.5, 0.0, 0.7, 9.0]))
    assert np.allclose(strict.to_host(ops.activate(activation, x)), mine, rtol=2e-15, atol=0)


# The meta backend: shapes without values


@pytest.mark.parametrize("name", ZOO)
def test_meta_has_numpys_ledger(name):
    """The same events in order; sums by site for mixtures of experts, whose routing depends on the data."""
    config = ZOO[name]
    events, wanted = feed(make(config, "meta", "float32"))[2], reference(config, "float32").events
    if any(kind.experts for kind in config.layers):
        assert macs_by_site(events) == macs_by_site(wanted)
    else:
        assert events == wanted


def test_meta_reads_no_weights(tmp_path):
    (tmp_path / "config.json").write_bytes((PACKAGE / "demo" / "config.json").read_bytes())
    model = kvsim.load(tmp_path, backend="meta")
    with model.count() as ledger:
        assert model([1, 2, 3]).shape == (3, model.config.vocab_size)
    demo = kvsim.load("demo")
    with demo.count() as real:
        demo([1, 2, 3])
    assert ledger.events == real.events


def test_reading_a_value_from_meta_is_an_error(capsys):
    model = kvsim.load("demo", backend="meta")
    logits = model([1, 2, 3])
    for ask in (int, float, bool, list, len, np.asarray, model.ops.backend.to_host):
        with pytest.raises(UsageError, match="shapes and no values"):
            ask(logits)
    for options in ([], ["--temperature", "1"]):
        assert command(["trace", "中", "--backend", "meta", "--lang", "en", *options]) == 2
        assert "use kvsim.count, or another backend" in capsys.readouterr().err
    with pytest.raises(UsageError, match="shapes and no values"):
        kvsim.generate(model, "中", temperature=0.7)


def test_meta_checks_shapes_and_dtypes():
    xp = get_backend("meta").xp
    x = xp.empty((2, 3), dtype="float32")
    for wrong in (
        lambda: xp.matmul(x, x),
        lambda: xp.reshape(x, (4, 2)),
        lambda: x + xp.empty((2, 4), dtype="float32"),
        lambda: x * xp.empty((2, 3), dtype="int64"),
        lambda: x * np.float32(1.0),
        lambda: x * np.ones((2, 3)),
        lambda: x[5, :],
        lambda: xp.concat([x, xp.empty((2, 4), dtype="float32")], axis=0),
        lambda: xp.where(x, x, x),
        lambda: xp.take(x, x, axis=0),
        lambda: xp.exp(xp.arange(0, 3)),
        lambda: x.__setitem__((slice(0, 1), slice(None)), xp.empty((2, 3), dtype="float32")),
    ):
        with pytest.raises((TypeError, ValueError, IndexError)):
            wrong()
