"""Plans for every point of a grid: one row a point, always in the same order.

A point is plain integer arithmetic; what all contexts and batches of one combination share is computed once per chunk.
Chunks run in this process, in several, or on a Dask cluster: the rows are the same. If a combination is not possible
(a device without the dtype, heads that do not divide), its rows hold the reason.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any, NamedTuple

from kvsim.costs.bytes.growth import Growth
from kvsim.costs.plans.grid import Grid
from kvsim.costs.plans.planning import READINGS, Setup, check_setup, decimal, default_dtype, list_readings
from kvsim.costs.plans.workers import call_in_processes
from kvsim.errors import UsageError

COLUMNS = (
    "model", "dtype", "cache_dtype", "device", "devices", "utilization", "context", "batch",
    "weight_bytes", "cache_bytes",
    *(f"{reading}_{what}" for reading in READINGS for what in ("budget", "spare", "tokens", "requests")),
    "refused",
)  # fmt: skip
CHUNK, ALONE = 4_000, 8_000  # points of a chunk; up to ALONE points are not worth starting processes
UNLIMITED = "unlimited"
Row = tuple[Any, ...]  # in the order of COLUMNS; None: unknown, or not possible

# Weights and growth that are already computed, by config (its id: the grid keeps it alive), dtypes and devices.
Known = dict[tuple[int, str, str, str, int], tuple[int, Growth] | UsageError]


class Room(NamedTuple):
    """One reading of a combination."""

    budget: int
    room: int  # budget less the weights
    tokens: int | str  # a number, or UNLIMITED


def _setup(grid: Grid, number: int) -> tuple[Setup, Fraction, Row]:
    """The setup of combination `number`, its utilization, and the first columns of its rows."""
    (name, config, source), dtype, cache_dtype, device, devices, utilization = grid.combination(number)
    setup = Setup(config, device, devices, dtype or default_dtype(device), cache_dtype, source)
    share = decimal(utilization)
    return setup, utilization, (name, setup.dtype, setup.kv_dtype, device.name, devices, share)


def _rooms(setup: Setup, utilization: Fraction, weights: int, growth: Growth) -> list[Room | None]:
    """The room under each of READINGS; None: unknown for this device."""
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
    """Context and batch of points `start` .. `stop` - 1 of a combination."""
    for place in range(start, stop):
        context, batch = divmod(place, len(grid.batches))
        yield grid.contexts[context], grid.batches[batch]


def make_rows(grid: Grid, start: int, stop: int) -> list[Row]:
    """The rows of points `start` .. `stop` - 1 of the grid."""
    found: list[Row] = []
    known: Known = {}
    block = len(grid.contexts) * len(grid.batches)
    while start < stop:
        number, first = divmod(start, block)
        last = min(block, first + stop - start)
        found += _rows_of(grid, number, first, last, known)
        start += last - first
    return found


def _look_up(setup: Setup, known: Known) -> tuple[int, Growth]:
    """Weight bytes and growth of a setup, computed once: they are the same on every device that has the dtype.

    UsageError: as `check_setup`."""
    setup.device.peak(setup.compute_dtype)
    key = (id(setup.config), setup.dtype, setup.compute_dtype, setup.kv_dtype, setup.devices)
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


def _rows_of(grid: Grid, number: int, start: int, stop: int, known: Known) -> Iterator[Row]:
    """The rows of points `start` .. `stop` - 1 of combination `number`."""
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
    """`Growth.sequences`, with UNLIMITED for None."""
    if room < 0:
        return 0
    return room // each if each else UNLIMITED


# Chunks


def cut(points: int, size: int = CHUNK) -> list[tuple[int, int]]:
    """(start, stop) of each chunk of `size` points.

    >>> cut(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    return [(start, min(points, start + size)) for start in range(0, points, size)]


def run_sweep(
    grid: Grid, scheduler: str | None = None, processes: int | None = None
) -> Generator[list[Row], None, None]:
    """The rows chunk by chunk, in order, from `processes` processes (default: one per core; a small sweep runs in this
    process), or from the Dask cluster at `scheduler` ("tcp://host:8786"). Rows yielded before an error are correct.

    BackendError: Dask is missing, a scheduler that does not answer, a process that died.
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
    with closing(call_in_processes(make_rows, [(grid, *chunk) for chunk in chunks], workers)) as results:
        yield from results
