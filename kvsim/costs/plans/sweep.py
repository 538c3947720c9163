"""Plans over a grid of models, dtypes, devices, contexts and batches: one row a point, always in the same order.

The grid varies the batch fastest, then the context, the utilisation, the number of devices, the device, the cache
dtype, the dtype, and the model slowest. A point is plain integer arithmetic; what belongs to its combination (all but
context and batch) is counted once for a chunk. Chunks run in this process, in several, or on a Dask cluster: the rows
are the same. A combination that cannot be (a device without the dtype, heads that do not split) is refused in its row.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.checks import LARGEST, check_whole
from kvsim.config import Config
from kvsim.costs.bytes.growth import Growth
from kvsim.costs.plans.planning import (
    READINGS,
    Setup,
    check_dtypes,
    check_setup,
    decimal,
    default_dtype,
    list_readings,
    read_devices_count,
    read_source,
    read_utilization,
)
from kvsim.costs.public.devices import Device, find_device
from kvsim.costs.public.models import find_config
from kvsim.errors import BackendError, FileError, UsageError, shortened
from kvsim.loading.json_file import read_json

COLUMNS = (
    "model", "dtype", "cache_dtype", "device", "devices", "utilization", "context", "batch",
    "weight_bytes", "cache_bytes",
    *(f"{reading}_{what}" for reading in READINGS for what in ("budget", "spare", "tokens", "requests")),
    "refused",
)  # fmt: skip
KEYS = (
    "models", "devices", "contexts", "batches", "dtypes", "cache_dtypes", "parallel", "utilizations", "source",
)  # fmt: skip
NEEDED = KEYS[:3]
MOST_POINTS = 10**8
CHUNK, ALONE = 4_000, 8_000  # points of a chunk; up to so many are not worth processes of their own
UNLIMITED = "unlimited"
Row = tuple[Any, ...]  # in the order of COLUMNS; None: not known, or refused


@dataclass(frozen=True)
class Grid:
    """What a sweep goes over; it travels to other processes."""

    models: tuple[tuple[str, Config, int], ...]  # name, facts, encoder positions
    dtypes: tuple[str | None, ...]  # None: the device's own choice
    cache_dtypes: tuple[str | None, ...]  # None: that of the weights
    devices: tuple[Device, ...]
    parallel: tuple[int, ...]
    utilizations: tuple[Fraction, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]

    @property
    def points(self) -> int:
        """How many rows."""
        return prod(map(len, (*self._axes, self.contexts, self.batches)))

    @property
    def _axes(self) -> tuple[Sequence[Any], ...]:
        return (self.models, self.dtypes, self.cache_dtypes, self.devices, self.parallel, self.utilizations)

    def combination(self, number: int) -> tuple[Any, ...]:
        """One of each but context and batch."""
        found = []
        for values in reversed(self._axes):
            number, place = divmod(number, len(values))
            found.append(values[place])
        return tuple(reversed(found))


# What is counted already: of each config (by its identity: the grid holds it), dtypes and number of devices.
Known = dict[tuple[int, str, str, str, int], tuple[int, Growth] | UsageError]


class Room(NamedTuple):
    """One reading of a combination."""

    budget: int
    room: int  # beside the weights
    tokens: int | str  # or UNLIMITED


def make_grid(
    models: Sequence[str | Config],
    devices: Sequence[str],
    contexts: Sequence[int],
    *,
    batches: Sequence[int] = (1,),
    dtypes: Sequence[str | None] = (None,),
    cache_dtypes: Sequence[str | None] = (None,),
    parallel: Sequence[int] = (1,),
    utilizations: Sequence[Any] = (1,),
    source: int | None = None,
) -> Grid:
    """A grid whose names and numbers make sense. `parallel`: how many devices share the model; `source`: encoder
    positions of the models with an encoder. UsageError: they do not, or more than MOST_POINTS."""
    for dtype, cache_dtype in [*((d, None) for d in dtypes), *((None, c) for c in cache_dtypes)]:
        check_dtypes(dtype, cache_dtype)
    named = []
    for model in models:
        name, config = find_config(model)
        named.append((name, config, read_source(name, config, source if config.encoder is not None else None)))
    grid = Grid(
        tuple(named),
        tuple(dtypes),
        tuple(cache_dtypes),
        tuple(map(find_device, devices)),
        tuple(map(read_devices_count, parallel)),
        tuple(map(read_utilization, utilizations)),
        tuple(check_whole("context", context, 1, LARGEST) for context in contexts),
        tuple(check_whole("batch", batch, 1, LARGEST) for batch in batches),
    )
    if grid.points > MOST_POINTS:
        raise UsageError("a sweep of {got} points: sweeps go up to {most}", got=grid.points, most=MOST_POINTS)
    return grid


def read_grid(path: Path) -> Grid:
    """The grid in a JSON file: an object of lists, those of KEYS. FileError: it is none. UsageError: as `make_grid`."""
    found = read_json(path)
    for key in found:
        if key not in KEYS:
            raise FileError(
                "{path}: unknown key {key}: use {known}", path=path, key=shortened(key), known=", ".join(KEYS)
            )
    for key in NEEDED:
        if key not in found:
            raise FileError("{path}: {key} is missing: a sweep needs {needed}", path=path, key=key,
                            needed=", ".join(NEEDED))  # fmt: skip
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
    return make_grid(**found)


def _setup(grid: Grid, number: int) -> tuple[Setup, Fraction, Row]:
    """The combination's setup, its utilisation, and the row's first columns."""
    (name, config, source), dtype, cache_dtype, device, devices, utilization = grid.combination(number)
    setup = Setup(config, device, devices, dtype or default_dtype(device), cache_dtype, source)
    share = decimal(utilization)
    return setup, utilization, (name, setup.dtype, setup.kept, device.name, devices, share)


def _rooms(setup: Setup, utilization: Fraction, weights: int, growth: Growth) -> list[Room | None]:
    """Each of READINGS; None: not known of this device."""
    readings = list_readings(setup.device)
    found: list[Room | None] = []
    for reading in READINGS:
        memory = readings.get(reading)
        if memory is None:
            found.append(None)
            continue
        budget = memory * utilization.numerator // utilization.denominator
        tokens = growth.tokens(budget - weights)
        found.append(Room(budget, budget - weights, UNLIMITED if tokens is None else tokens))
    return found


def _points(grid: Grid, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Context and batch of the points of one combination."""
    for place in range(start, stop):
        context, batch = divmod(place, len(grid.batches))
        yield grid.contexts[context], grid.batches[batch]


def make_rows(grid: Grid, start: int, stop: int) -> list[Row]:
    """The rows of the points from `start` up to `stop`."""
    found: list[Row] = []
    known: Known = {}
    block = len(grid.contexts) * len(grid.batches)
    while start < stop:
        number, first = divmod(start, block)
        last = min(block, first + stop - start)
        found += _combined(grid, number, first, last, known)
        start += last - first
    return found


def _look_up(setup: Setup, known: Known) -> tuple[int, Growth]:
    """Weights and growth of a setup, counted once: they are the same on every device that has the dtype. UsageError:
    as `check_setup`."""
    setup.device.peak(setup.computed)
    key = (id(setup.config), setup.dtype, setup.computed, setup.kept, setup.devices)
    if key not in known:
        try:
            check_setup(setup)
            known[key] = (setup.weight_bytes, setup.growth)
        except UsageError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, UsageError):
        raise found
    return found


def _combined(grid: Grid, number: int, start: int, stop: int, known: Known) -> Iterator[Row]:
    """The rows of one combination."""
    setup, utilization, head = _setup(grid, number)
    try:
        weights, growth = _look_up(setup, known)
    except UsageError as error:
        nothing = (None,) * (2 + 4 * len(READINGS))
        for context, batch in _points(grid, start, stop):
            yield (*head, context, batch, *nothing, str(error))
        return
    rooms = _rooms(setup, utilization, weights, growth)
    before, each = 0, 0
    for context, batch in _points(grid, start, stop):
        if context != before:
            before, each = context, growth.peak(context)
            fits = [None if r is None else _sequences(r.room, each) for r in rooms]
        cache = each * batch
        row = [*head, context, batch, weights, cache]
        for room, requests in zip(rooms, fits, strict=True):
            row += (None,) * 4 if room is None else (room.budget, room.room - cache, room.tokens, requests)
        yield (*row, None)


def _sequences(room: int, each: int) -> int | str:
    """As `Growth.sequences`."""
    if room < 0:
        return 0
    return room // each if each else UNLIMITED


# Where chunks run


def cut(points: int, size: int = CHUNK) -> list[tuple[int, int]]:
    """Chunks of so many points, from start to stop.

    >>> cut(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    return [(start, min(points, start + size)) for start in range(0, points, size)]


def run_sweep(grid: Grid, scheduler: str | None = None, processes: int | None = None) -> Iterator[list[Row]]:
    """The rows chunk by chunk, in order: by `processes` processes (all cores unless said; a small sweep by this one),
    or by the Dask cluster at `scheduler` ("tcp://host:8786"). What was yielded before an error is right.

    BackendError: no Dask, a scheduler that does not answer, processes that died.
    """
    chunks = cut(grid.points)
    if scheduler is not None:
        from kvsim.costs.plans.cluster import run_on_cluster

        yield from run_on_cluster(scheduler, make_rows, grid, chunks)
        return
    workers = min(processes or os.cpu_count() or 1, len(chunks))
    if workers <= 1 or (processes is None and grid.points <= ALONE):
        yield from (make_rows(grid, *chunk) for chunk in chunks)
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(make_rows, grid, *chunk) for chunk in chunks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool as error:
            raise BackendError("a process of the sweep died: run it again, or on a machine with more memory") from error
        finally:
            pool.shutdown(cancel_futures=True)
