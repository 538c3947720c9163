"""Helpers of the tests of quantised caches: models, rows, and their quantisation in plain Python."""

from dataclasses import replace

import numpy as np
import pytest

from kvsim.arrays import get_backend
from kvsim.caches.base import Shape
from kvsim.caches.specs import parse_spec
from kvsim.config import Alibi, Latent, LayerKind
from kvsim.model import make_ops
from kvsim.spans import Span
from tests.caches.quantised.scalar_quantiser import quantise_rows
from tests.models import GPT2_LIKE, PRIMES

SMALL = "group=2,residual=3"
SPECS = [
    f"int8:{SMALL}", f"int4:{SMALL}", f"fp8:{SMALL}", f"int8:{SMALL},zero", f"int4:{SMALL},zero", f"int8:{SMALL},head",
    f"int4:{SMALL},zero,head", f"fp8:{SMALL},head",
]  # fmt: skip
IDS = [int(i) for i in np.random.default_rng(4).integers(0, 101, 24)]


def latent(form):
    kinds = tuple(replace(kind, rope=replace(kind.rope, size=4)) for kind in PRIMES.layers)
    return replace(PRIMES, layers=kinds, n_kv_heads=6, latent=Latent(6, None, 3, 4, 8, 1e-6, form))


EVEN_LATENT = replace(latent("cached_expanded"), latent=Latent(6, None, 4, 4, 8, 1e-6, "cached_expanded"))
CONFIGS = {
    "rope": PRIMES,
    "learned": GPT2_LIKE,
    "alibi": replace(PRIMES, layers=(LayerKind(),) * 2, alibi=Alibi(6)),
    "windowed": replace(PRIMES, layers=(PRIMES.layers[0], replace(PRIMES.layers[1], window=4))),
    "absorbed": latent("absorbed"),
    "reexpanded": latent("reexpanded"),
    "cached_expanded": EVEN_LATENT,
}


def needs(spec):
    if spec.startswith("fp8"):
        pytest.importorskip("ml_dtypes")


def layer_of(spec, shape=Shape(3, 4, 6), dtype="float64", backend="numpy"):  # noqa: B008
    parsed = parse_spec(spec)
    return parsed.policy(make_ops(get_backend(backend), dtype), shape, parsed.options)


def rows(shape, count, seed=0, dtype="float64"):
    """Keys [G, count, K] and values, whose channels differ in size."""
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(shape.n_heads, count, d)) * 10.0 ** rng.integers(-2, 3, d) for d in shape[1:]]
    return [x.astype(dtype) for x in made]


def feed(layer, made, sizes, start=0):
    """Feeds rows in steps of `sizes`; returns one view for each step."""
    views = []
    for size in sizes:
        pos = Span(start, start + size)
        views += layer.update(*(x[:, start : pos.stop, :] for x in made), pos, lambda k, v, _: (k, v))
        layer.commit(pos)
        start = pos.stop
    return views


def expected_rows(spec, shape, made, count):
    """By plain Python: payloads, scales, zero points and dequantised numbers of the first `count` rows, for keys and
    for values."""
    name, options = parse_spec(spec)
    sizes = (
        [(1, d) for d in shape[1:]] if options.head else [(options.group, 1), (1, min(options.group, shape.d_value))]
    )
    return [quantise_rows(name, options.zero, x[:, :count, :], *pair) for x, pair in zip(made, sizes, strict=True)]


def count_quantised(seen, group, residual):
    """Counted group by group: one more as long as the residual is left."""
    count = 0
    while seen - count - group >= residual:
        count += group
    return count


def held_bytes(layer):
    """The bytes of every quantised array of a layer."""
    return [np.ascontiguousarray(x).tobytes() for packed in layer._packed for x in packed if x is not None]
