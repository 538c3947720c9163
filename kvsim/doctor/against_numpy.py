"""One backend compared with NumPy on small models of every family: logits, ids, products.

`kvsim doctor --gpu` prints the result for a GPU; the tests run the same comparison on every backend they find.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from kvsim.arrays import Backend, get_backend
from kvsim.config import Config
from kvsim.counting.events import MatMul
from kvsim.generation.generate import generate
from kvsim.loading.random_weights import random_weights
from kvsim.loading.small_models import read_small_models
from kvsim.model import Model

IDS = [int(i) for i in np.random.default_rng(1).integers(3, 53, 12)]
SOURCE = [int(i) for i in np.random.default_rng(2).integers(3, 53, 9)]
FEATURES = np.random.default_rng(3).normal(size=(8, 18))
CUTS = (5, 1, 1, 5)  # sizes of the chunks fed through a cache
# The allowed difference as a part of max|logit|. In float32 the weights are rounded too, not only every sum.
ALLOWED = {"float64": 1e-12, "float32": 1e-5}


class Result(NamedTuple):
    """The results of one model on one backend."""

    full: Any  # logits [T, V] on the host, fed at once
    cached: Any  # the same, fed in chunks through a cache
    ids: list[int]  # greedy
    events: list[MatMul]  # the products of both


class Comparison(NamedTuple):
    """One model in one dtype on a backend, compared with NumPy."""

    model: str
    dtype: str
    difference: float  # the largest, fed at once or in chunks, from NumPy's float64, over max|logit|
    same_ids: bool  # as NumPy's in the same dtype
    same_ledger: bool  # likewise

    @property
    def agrees(self) -> bool:
        """Are the difference allowed, the ids equal, and the products equal?"""
        return self.difference <= ALLOWED[self.dtype] and self.same_ids and self.same_ledger


@lru_cache(maxsize=1)
def _weights(config: Config) -> Any:
    return random_weights(config)


def source_of(config: Config) -> dict[str, Any]:
    """The encoder's input as keyword arguments of a model's call; empty for a model without encoder."""
    if config.encoder is None:
        return {}
    return {"encoder_features": FEATURES} if config.encoder.audio else {"encoder_ids": SOURCE}


def feed(model: Model) -> tuple[Any, list[Any], list[MatMul]]:
    """Logits [T, V] of IDS fed at once, those of each chunk fed through a cache, and the products of both."""
    source = source_of(model.config)
    with model.ops.count() as ledger:
        full = model(IDS, **source)
        cache, parts, start = model.new_cache("dynamic"), [], 0
        for size in CUTS:
            parts.append(model(IDS[start : start + size], cache, **source))
            start += size
    return full, parts, ledger.events


def make(config: Config, backend: str | Backend, dtype: str) -> Model:
    """A model whose random weights depend on its config only."""
    return Model(config, _weights(config), backend=backend, dtype=dtype)


def run(config: Config, backend: str | Backend, dtype: str) -> Result:
    """Logits, greedy ids and products of one model."""
    library = get_backend(backend)
    model = make(config, library, dtype)
    full, parts, events = feed(model)
    prompt: Any = IDS[:4]
    if config.encoder is not None:
        prompt = FEATURES if config.encoder.audio else SOURCE
    ids = generate(model, prompt, max_new_tokens=5).ids
    return Result(library.to_host(full), np.concatenate([library.to_host(part) for part in parts]), ids, events)


@lru_cache(maxsize=4)
def reference(config: Config, dtype: str) -> Result:
    """NumPy's result; cached."""
    return run(config, "numpy", dtype)


def compare(name: str, config: Config, backend: str | Backend, dtype: str) -> Comparison:
    """The model `name` on `backend`, compared with NumPy."""
    got, wanted, same = run(config, backend, dtype), reference(config, "float64"), reference(config, dtype)
    pairs = ((got.full, wanted.full), (got.cached, wanted.cached))
    difference = max(float(np.abs(one.astype("f8") - other).max()) for one, other in pairs)
    share = difference / float(np.abs(wanted.full).max())
    return Comparison(name, dtype, share, got.ids == same.ids, got.events == same.events)


def compare_all(backend: str | Backend) -> Iterator[Comparison]:
    """The comparison of every small model in float64 and float32, as each is made."""
    library = get_backend(backend)
    for name, config in read_small_models().items():
        for dtype in ALLOWED:
            yield compare(name, config, library, dtype)
