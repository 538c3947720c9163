"""What fits on a device: tokens and requests beside the weights, exact, under each reading of the memory's figure.

"24 GB" is 24·10^9 bytes to its vendor, 24·2^30 to many readers, and what the driver reports is neither. Each is a
budget; so is any share of it (`utilization`). Tokens are those of one sequence (without windows also those of all
sequences together): the most for which weights and cache stay within the budget at every step on the way. Requests
are sequences of `context` tokens at once. Activations and what the libraries take are not counted: they are what a
utilisation below 1 leaves room for.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.caches.base import layer_shape
from kvsim.checks import LARGEST, check_whole
from kvsim.config import Config
from kvsim.costs.bytes.growth import Growth, make_growth
from kvsim.costs.bytes.memory import CACHE_DTYPES, count_rows, read_format
from kvsim.costs.plans.shards import WEIGHT_BITS, WEIGHT_DTYPES, kv_heads_each, measure_weights, shard
from kvsim.costs.public.devices import Device, find_device
from kvsim.costs.public.models import find_config
from kvsim.errors import UsageError, shortened

READINGS = ("gb", "gib", "usable")
MOST_DEVICES = 4_096
COMPUTED = ("float16", "bfloat16", "float32", "float64")  # what a device is asked for, the first that it has


@dataclass(frozen=True)
class Setup:
    """A model on devices: everything but how many tokens."""

    config: Config
    device: Device
    devices: int
    dtype: str  # of the weights: a dtype, int8 or int4
    cache_dtype: str | None  # None: that of the numbers that are not quantised
    source: int = 0  # encoder positions

    @property
    def computed(self) -> str:
        """The dtype of the numbers that are not quantised."""
        return default_dtype(self.device) if self.dtype in WEIGHT_BITS else self.dtype

    @property
    def kept(self) -> str:
        """The cache dtype."""
        return self.cache_dtype or self.computed

    @property
    def weight_bytes(self) -> int:
        """On the fullest device."""
        return _weight_bytes(self.config, self.devices, self.dtype, self.computed)

    @property
    def growth(self) -> Growth:
        """Of the cache of one sequence, on the fullest device."""
        return _growth(self.config, self.devices, self.computed, self.kept, self.source)


@lru_cache(maxsize=1_024)
def _weight_bytes(config: Config, devices: int, dtype: str, rest: str) -> int:
    return measure_weights(shard(config, devices), dtype, rest)


@lru_cache(maxsize=1_024)
def _growth(config: Config, devices: int, computed: str, kept: str, source: int) -> Growth:
    share = shard(config, devices)
    return make_growth(count_rows(share), read_format(kept, computed, layer_shape(share)), source)


class Fit(NamedTuple):
    """What fits under one reading, on each device."""

    reading: str  # of READINGS
    memory: int  # bytes
    budget: int  # of these, at the utilisation
    tokens: int | None  # None: no end, every layer having a window
    requests: int | None  # None: no end, nothing being kept
    spare: int  # bytes that one request leaves; below 0: what is missing


@dataclass(frozen=True)
class Plan:
    """The answer of `plan`. Bytes are those of the fullest device."""

    model: str
    setup: Setup
    utilization: Fraction
    context: int
    fits: tuple[Fit, ...]

    @property
    def request_bytes(self) -> int:
        """The most that a sequence takes on its way to `context` tokens."""
        return self.setup.growth.peak(self.context)

    @property
    def kv_heads(self) -> tuple[int, int]:
        """KV heads of the model, and of each device. Latents belong to all heads: one, on every device."""
        config = self.setup.config
        if config.latent is not None and config.latent.form != "cached_expanded":
            return 1, 1
        heads = config.n_heads if config.latent is not None else config.n_kv_heads
        return heads, kv_heads_each(config.n_heads, heads, self.setup.devices)


def default_dtype(device: Device) -> str:
    """float16 where the device has it, else bfloat16, float32, float64."""
    return next(dtype for dtype in COMPUTED if dtype in device.peaks)


def read_utilization(value: Any) -> Fraction:
    """A share above 0 up to 1, exactly as it is written: 0.9 is 9/10. UsageError: none."""
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,18})?", text) or not 0 < Fraction(text) <= 1:
        raise UsageError("utilization must be above 0 and at most 1, as in 0.9, got {got}", got=shortened(value))
    return Fraction(text)


def decimal(share: Fraction) -> str:
    """A share as it was written, without zeros at its end.

    >>> decimal(Fraction("0.90")), decimal(Fraction(1))
    ('0.9', '1')
    """
    text = f"{share.numerator * 10**18 // share.denominator:019d}"
    return f"{text[:-18]}.{text[-18:]}".rstrip("0").rstrip(".")


def list_readings(device: Device) -> dict[str, int]:
    """Bytes under each reading of the figure of the device's memory; `usable` where somebody printed it."""
    figure = device.nominal_bytes // (2**30 if device.nominal_bytes % 10**9 else 10**9)
    known = {"gb": figure * 10**9, "gib": figure * 2**30}
    return known if device.usable_bytes is None else known | {"usable": device.usable_bytes}


def check_setup(setup: Setup) -> Setup:
    """The same. UsageError: the device lacks the dtype, the heads do not split, the cache cannot hold the rows."""
    setup.device.peak(setup.computed)
    shard(setup.config, setup.devices)
    read_format(setup.kept, setup.computed, layer_shape(setup.config))
    return setup


def check_dtypes(dtype: str | None, cache_dtype: str | None) -> None:
    """UsageError: one of them is unknown."""
    if dtype is not None and dtype not in WEIGHT_DTYPES:
        raise UsageError(
            "unknown dtype {dtype}: use one of {known}", dtype=shortened(dtype), known=", ".join(WEIGHT_DTYPES)
        )
    if cache_dtype is not None and cache_dtype not in CACHE_DTYPES:
        raise UsageError(
            "unknown cache dtype {dtype}: use one of {known}",
            dtype=shortened(cache_dtype),
            known=", ".join(CACHE_DTYPES),
        )


def read_source(name: str, config: Config, source: int | None) -> int:
    """Encoder positions, 0 without an encoder. UsageError: given to a model without one, or missing."""
    if config.encoder is None and source is not None:
        raise UsageError("the model {model} has no encoder", model=name)
    if config.encoder is not None and source is None:
        raise UsageError("the model {model} reads a source: give source, its encoder positions", model=name)
    return 0 if source is None else check_whole("source", source, 1, LARGEST)


def read_devices_count(value: Any) -> int:
    """How many devices share the model. UsageError: below 1, or more than anybody has."""
    count = check_whole("devices", value, 1, LARGEST)
    if count > MOST_DEVICES:
        raise UsageError("devices is {got}: plans go up to {most}", got=count, most=MOST_DEVICES)
    return count


def find_fits(setup: Setup, utilization: Fraction, context: int) -> tuple[Fit, ...]:
    """What fits, under each reading."""
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
    """What fits of `model` on `devices` devices of that name (tensor parallel), at `utilization` of their memory.

    `dtype`: of the weights, also int8 and int4 (`kvsim.costs.plans.shards`); float16 unless the device lacks it.
    `cache_dtype`: as `measure_memory` takes it; by default that of the weights. `source`: encoder positions.

    UsageError: no such model, device or dtype, sizes that make no sense. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    found = find_device(device)
    check_dtypes(dtype, cache_dtype)
    context, count = check_whole("context", context, 1, LARGEST), read_devices_count(devices)
    setup = Setup(config, found, count, dtype or default_dtype(found), cache_dtype, read_source(name, config, source))
    check_setup(setup)
    share = read_utilization(utilization)
    return Plan(name, setup, share, context, find_fits(setup, share, context))


def change(setup: Setup, **fields: Any) -> Setup:
    """`setup` with other fields, if that can be. UsageError: it cannot."""
    return check_setup(replace(setup, **fields))
