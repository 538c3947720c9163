"""The array-library abstraction: names, refusals, and the whole model on a strict namespace."""

import array_api_strict
import numpy as np
import pytest

import kvsim.arrays
from kvsim.arrays import Backend, get_backend
from kvsim.errors import BackendError, UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.sampling import Sampler
from tests.models import CLOSE, GPT2_LIKE, PRIMES, make_model


@pytest.mark.parametrize("name", ["cupy", "torch", "exact", "meta"])
def test_what_is_not_there_yet(name):
    with pytest.raises(BackendError, match=f"the backend {name} is not in this version of kvsim: use numpy") as caught:
        get_backend(name)
    assert caught.value.exit_code == 3


def test_wrong_names():
    with pytest.raises(UsageError, match="unknown backend 'jax': use one of numpy, cupy"):
        get_backend("jax")
    with pytest.raises(UsageError, match="on the device cpu, not on cuda"):
        get_backend("numpy", "cuda")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        get_backend("numpy").dtype("int8")


@pytest.fixture
def strict():
    """array-api-strict on its second device: what NumPy forgives, and every array made elsewhere, fails."""
    xp, device = array_api_strict, array_api_strict.Device("device1")

    def to_host(x):
        return np.asarray(xp.asarray(x, device=array_api_strict.Device("CPU_DEVICE"))._array)

    return Backend("strict", xp, device, ("float32", "float64"), to_host)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("config", [PRIMES, GPT2_LIKE], ids=["rope", "learned"])
@pytest.mark.parametrize("spec", ["none", "dynamic", "static:9"])
def test_the_whole_model_is_array_api(strict, config, dtype, spec):
    weights = random_weights(config)
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
def test_activations_are_array_api(strict, activation):
    ops = Model(PRIMES, random_weights(PRIMES), backend=strict, dtype="float64").ops
    x = ops.xp.asarray([-3.0, -0.5, 0.0, 0.7, 9.0], device=ops.device)
    mine = make_model(PRIMES).ops.activate(activation, np.array([-3.0, -0.5, 0.0, 0.7, 9.0]))
    assert np.allclose(strict.to_host(ops.activate(activation, x)), mine, rtol=1e-15, atol=0)


def test_the_table_is_the_list():
    assert kvsim.arrays.BACKENDS == ("numpy", "cupy", "torch", "exact", "meta")
