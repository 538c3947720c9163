"""What fits on a device: tokens and requests beside the weights, exact, for each reading of its memory size.

"24 GB" is 24·10^9 bytes to its vendor and 24·2^30 to many readers, and the driver reports neither. Each reading gives a
budget, of which `utilization` is the usable share. Tokens are those of one sequence (without windows also those of all
sequences together): the most for which weights and cache stay within the budget at every step. Requests are concurrent
sequences of `context` tokens. Activations and libraries are not counted: a utilization below 1 leaves room for them.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.caches.base import layer_shape
from kvsim.checks import LARGEST, check_whole, is_name
from kvsim.config import Config
from kvsim.costs.bytes.growth import Growth, make_growth
from kvsim.costs.bytes.memory import CACHE_DTYPES, count_rows, read_format
from kvsim.costs.plans.shards import WEIGHT_BITS, WEIGHT_DTYPES, kv_heads_each, measure_weights, shard
from kvsim.costs.public.devices import Device, find_device
from kvsim.costs.public.models import check_source, find_config
from kvsim.errors import UsageError, shortened
from kvsim.schemas.display import mimebundle

READINGS = ("gb", "gib", "usable")
MOST_DEVICES = 4_096
COMPUTE_DTYPES = ("float16", "bfloat16", "float32", "float64")  # in order of preference


@dataclass(frozen=True)
class Setup:
    """A model on devices: everything but the number of tokens."""

    config: Config
    device: Device
    devices: int
    dtype: str  # of the weights: a dtype, int8 or int4
    cache_dtype: str | None  # None: `compute_dtype`
    source: int = 0  # encoder positions

    def __repr__(self) -> str:
        on = f"{self.devices} x {self.device.name}"
        return f"Setup({self.config.family!r}, {on}, dtype={self.dtype!r}, cache_dtype={self.kv_dtype!r})"

    @property
    def compute_dtype(self) -> str:
        """The dtype of the numbers that are not quantised."""
        return default_dtype(self.device) if self.dtype in WEIGHT_BITS else self.dtype

    @property
    def kv_dtype(self) -> str:
        """The format of the cache: `cache_dtype` with its default applied."""
        return self.cache_dtype or self.compute_dtype

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights on the fullest device."""
        return _weight_bytes(self.config, self.devices, self.dtype, self.compute_dtype)

    @property
    def growth(self) -> Growth:
        """The growth of one sequence's cache on the fullest device."""
        return _growth(self.config, self.devices, self.compute_dtype, self.kv_dtype, self.source)


@lru_cache(maxsize=1_024)
def _weight_bytes(config: Config, devices: int, dtype: str, rest: str) -> int:
    return measure_weights(shard(config, devices), dtype, rest)


@lru_cache(maxsize=1_024)
def _growth(config: Config, devices: int, computed: str, kept: str, source: int) -> Growth:
    share = shard(config, devices)
    return make_growth(count_rows(share), read_format(kept, computed, layer_shape(share)), source)


class Fit(NamedTuple):
    """What fits on each device under one reading of its memory size."""

    reading: str  # of READINGS
    memory: int  # bytes
    budget: int  # of these, at the utilization
    tokens: int | None  # None: unlimited, since every layer has a window
    requests: int | None  # None: unlimited, since nothing is kept
    spare: int  # bytes left after one request; below 0: bytes missing


@dataclass(frozen=True)
class Plan:
    """The result of `plan`. Bytes are those of the fullest device."""

    model: str
    setup: Setup
    utilization: Fraction
    context: int
    fits: tuple[Fit, ...]

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        s = self.setup
        on = f"{s.devices} x {s.device.name}, dtype={s.dtype!r}, cache_dtype={s.kv_dtype!r}"
        return f"Plan({self.model!r:.40}, {on}, utilization={decimal(self.utilization)}, context={self.context})"

    @property
    def request_bytes(self) -> int:
        """The most bytes that a sequence holds at any point up to `context` tokens."""
        return self.setup.growth.peak(self.context)

    @property
    def kv_heads(self) -> tuple[int, int]:
        """KV heads of the model and of each device. Latents, shared by all heads, count as one on each."""
        config = self.setup.config
        if config.latent is not None and config.latent.form != "cached_expanded":
            return 1, 1
        heads = config.n_heads if config.latent is not None else config.n_kv_heads
        return heads, kv_heads_each(config.n_heads, heads, self.setup.devices)


def default_dtype(device: Device) -> str:
    """The first of COMPUTE_DTYPES that the device has a peak for."""
    return next(dtype for dtype in COMPUTE_DTYPES if dtype in device.peaks)


def read_utilization(value: Any) -> Fraction:
    """A share above 0 and at most 1, exactly as written: 0.9 is 9/10. UsageError: anything else."""
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,18})?", text) or not 0 < Fraction(text) <= 1:
        raise UsageError("utilization must be above 0 and at most 1, as in 0.9, got {got}", got=shortened(value))
    return Fraction(text)


def decimal(share: Fraction) -> str:
    """A share as decimal text without trailing zeros.

    >>> decimal(Fraction("0.90")), decimal(Fraction(1))
    ('0.9', '1')
    """
    text = f"{share.numerator * 10**18 // share.denominator:019d}"
    return f"{text[:-18]}.{text[-18:]}".rstrip("0").rstrip(".")


def list_readings(device: Device) -> dict[str, int]:
    """Bytes under each reading of the device's memory size; `usable` where it is known."""
    figure = device.nominal_bytes // (2**30 if device.nominal_bytes % 10**9 else 10**9)
    known = {"gb": figure * 10**9, "gib": figure * 2**30}
    return known if device.usable_bytes is None else known | {"usable": device.usable_bytes}


def check_setup(setup: Setup) -> Setup:
    """`setup` itself. UsageError: no peak for the dtype, heads that do not divide, rows that the cache cannot store."""
    setup.device.peak(setup.compute_dtype)
    shard(setup.config, setup.devices)
    read_format(setup.kv_dtype, setup.compute_dtype, layer_shape(setup.config))
    return setup


def check_dtypes(dtype: str | None, cache_dtype: str | None) -> None:
    """UsageError: an unknown dtype or cache dtype (None: none is given)."""
    if dtype is not None and not is_name(dtype, WEIGHT_DTYPES):
        raise UsageError(
            "unknown dtype {dtype}: use one of {known}", dtype=shortened(dtype), known=", ".join(WEIGHT_DTYPES)
        )
    if cache_dtype is not None and not is_name(cache_dtype, CACHE_DTYPES):
        raise UsageError(
            "unknown cache dtype {dtype}: use one of {known}",
            dtype=shortened(cache_dtype),
            known=", ".join(CACHE_DTYPES),
        )


def find_fits(setup: Setup, utilization: Fraction, context: int) -> tuple[Fit, ...]:
    """What fits under each reading."""
    weights, growth = setup.weight_bytes, setup.growth
    each, found = growth.peak(context), []
    for reading, memory in list_readings(setup.device).items():
        budget = memory * utilization.numerator // utilization.denominator
        room = budget - weights
        tokens = growth.tokens(room)
        found.append(Fit(reading, memory, budget, tokens, growth.sequences(context, room), room - each))
    return tuple(found)


def plan(
    model: str | Path | Config,
    device: str,
    context: int,
    *,
    dtype: str | None = None,
    cache_dtype: str | None = None,
    utilization: Any = 1,
    devices: int = 1,
    source: int | None = None,
) -> Plan:
    """What fits of `model` on `devices` devices of this name (tensor-parallel), at `utilization` of their memory.

    `dtype`: of the weights, also int8 and int4 (`kvsim.costs.plans.shards`); default float16, if the device has it.
    `cache_dtype`: as `measure_memory` takes it; default: that of the weights. `context`: tokens of a request. `source`:
    encoder positions.

    UsageError: no such model, device or dtype, or a size that is not possible. FileError: a config.json that cannot be
    used.
    """
    name, config = find_config(model)
    found = find_device(device)
    check_dtypes(dtype, cache_dtype)
    context = check_whole("context", context, 1, LARGEST)
    count = check_whole("devices", devices, 1, MOST_DEVICES)
    setup = Setup(config, found, count, dtype or default_dtype(found), cache_dtype, check_source(name, config, source))
    check_setup(setup)
    share = read_utilization(utilization)
    return Plan(name, setup, share, context, find_fits(setup, share, context))


def change(setup: Setup, **fields: Any) -> Setup:
    """`setup` with these fields replaced. UsageError: as `check_setup`."""
    return check_setup(replace(setup, **fields))
