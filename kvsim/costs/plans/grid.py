"""The grid of a sweep: models, dtypes, devices, contexts and batches, checked, from options or from a JSON file.

The batch varies fastest, then the context, the utilization, the number of devices, the device, the cache dtype, the
dtype, and the model slowest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

from kvsim.checks import LARGEST, check_whole
from kvsim.config import Config
from kvsim.costs.plans.planning import MOST_DEVICES, check_dtypes, read_utilization
from kvsim.costs.public.devices import Device, find_device
from kvsim.costs.public.models import check_source, find_config
from kvsim.errors import FileError, UsageError, shortened
from kvsim.loading.json_file import SMALL, read_json

MOST_POINTS = 10**8


@dataclass(frozen=True)
class Axes:
    """The values that a sweep combines, as a caller gives them. `parallel`: how many devices share the model;
    `source`: encoder positions of the models with an encoder."""

    models: Sequence[str | Config]
    devices: Sequence[str]
    contexts: Sequence[int]
    batches: Sequence[int] = (1,)
    dtypes: Sequence[str | None] = (None,)  # None: the device's default
    cache_dtypes: Sequence[str | None] = (None,)  # None: that of the weights
    parallel: Sequence[int] = (1,)
    utilizations: Sequence[Any] = (1,)
    source: int | None = None


KEYS = tuple(field.name for field in fields(Axes))
REQUIRED = KEYS[:3]


@dataclass(frozen=True)
class Grid:
    """The checked axes of a sweep; it is pickled for other processes."""

    models: tuple[tuple[str, Config, int], ...]  # name, config, encoder positions
    dtypes: tuple[str | None, ...]  # None: the device's default
    cache_dtypes: tuple[str | None, ...]  # None: that of the weights
    devices: tuple[Device, ...]
    parallel: tuple[int, ...]
    utilizations: tuple[Fraction, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Grid(points={self.points}, models={len(self.models)}, devices={len(self.devices)})"

    @property
    def points(self) -> int:
        """The number of points, each of which gives one row."""
        return prod(map(len, (*self._axes, self.contexts, self.batches)))

    @property
    def _axes(self) -> tuple[Sequence[Any], ...]:
        return (self.models, self.dtypes, self.cache_dtypes, self.devices, self.parallel, self.utilizations)

    def combination(self, number: int) -> tuple[Any, ...]:
        """Combination `number`: one value of each axis but context and batch."""
        found = []
        for values in reversed(self._axes):
            number, place = divmod(number, len(values))
            found.append(values[place])
        return tuple(reversed(found))


def make_grid(axes: Axes) -> Grid:
    """The grid of these axes. UsageError: an unknown name, a number that is not possible, more than MOST_POINTS."""
    if axes.source is not None:
        check_whole("source", axes.source, 1, LARGEST)  # also where no model has an encoder
    for dtype, cache_dtype in [*((d, None) for d in axes.dtypes), *((None, c) for c in axes.cache_dtypes)]:
        check_dtypes(dtype, cache_dtype)
    grid = Grid(
        tuple(_find_model(model, axes.source) for model in axes.models),
        tuple(axes.dtypes),
        tuple(axes.cache_dtypes),
        tuple(map(find_device, axes.devices)),
        tuple(check_whole("devices", count, 1, MOST_DEVICES) for count in axes.parallel),
        tuple(map(read_utilization, axes.utilizations)),
        tuple(check_whole("context", context, 1, LARGEST) for context in axes.contexts),
        tuple(check_whole("batch", batch, 1, LARGEST) for batch in axes.batches),
    )
    if grid.points > MOST_POINTS:
        raise UsageError("a sweep of {got} points: sweeps go up to {most}", got=grid.points, most=MOST_POINTS)
    return grid


def _find_model(model: str | Config, source: int | None) -> tuple[str, Config, int]:
    """Name, config and encoder positions of a model; one without an encoder ignores `source`."""
    name, config = find_config(model)
    return name, config, check_source(name, config, source if config.encoder is not None else None)


def read_grid(path: Path) -> Grid:
    """The grid in a JSON file: an object whose keys are KEYS and whose values are lists.

    FileError: another key or value, or a required key is missing. UsageError: as `make_grid`."""
    found = read_json(path, SMALL)
    for key in found:
        if key not in KEYS:
            raise FileError(
                "{path}: unknown key {key}: use {known}", path=path, key=shortened(key), known=", ".join(KEYS)
            )
    for key in REQUIRED:
        if key not in found:
            raise FileError("{path}: {key} is missing: a sweep needs {needed}", path=path, key=key,
                            needed=", ".join(REQUIRED))  # fmt: skip
    for key, value in found.items():
        if key != "source" and (not isinstance(value, list) or not value):
            raise FileError(
                "{path}: {key} must be a list of at least one value, got {got}",
                path=path,
                key=key,
                got=shortened(value),
            )
        texts = key in ("models", "devices") or (key in ("dtypes", "cache_dtypes") and None not in value)
        if texts and not all(isinstance(word, str) for word in value):
            raise FileError("{path}: {key} must hold names, got {got}", path=path, key=key, got=shortened(value))
    return make_grid(Axes(**found))
