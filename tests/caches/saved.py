"""Policies whose caches are saved in tests: each, with every kind of option; and a model with a window in one layer."""

from dataclasses import replace

from tests.models import PRIMES

SPECS = (
    "dynamic", "static:60", "paged:4", "window:5", "sinks:2+3", "h2o:6", "snapkv:6", "knorm:6",
    "int8:residual=2,group=2", "int8:residual=2,group=5,zero", "int8:residual=2,group=4,head",
    "int4:residual=2,group=2", "int4:residual=2,group=5,zero", "fp8:residual=2,group=2",
    "offload:dynamic", "offload:h2o:6", "offload:int4:residual=2,head",
)  # fmt: skip
WINDOWED = replace(PRIMES, layers=(PRIMES.layers[0], replace(PRIMES.layers[1], window=4)))
