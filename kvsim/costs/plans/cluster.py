"""Chunks of a sweep on a Dask cluster, whose workers have kvsim too. Results come in the order of the chunks.

A scheduler that does not answer is given up within SILENCE seconds, at the start and in between; so is one whose
workers are all gone for as long.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kvsim.errors import BackendError, shortened

SILENCE = 8  # seconds, so that the error is there within 10
POLL = 1  # seconds between looks at a scheduler that owes a result


def _connect(address: str) -> Any:
    """A client of the scheduler at `address`. BackendError: no Dask, or nobody there."""
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendError('--scheduler needs Dask: pip install ".[dask]" in a clone of kvsim') from error
    try:
        return Client(address, timeout=SILENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # nobody listens, or no such address
        raise _silent(address) from error


def _silent(address: str) -> BackendError:
    return BackendError(
        "no scheduler with workers answers at {address}: given up within {seconds} s",
        address=shortened(address),
        seconds=SILENCE,
    )


def _answers(client: Any) -> bool:
    """Is the scheduler there, with workers?"""
    try:
        return bool(client.sync(client.scheduler.identity, callback_timeout=SILENCE // 2)["workers"])
    except Exception:  # whatever a broken connection raises
        return False


def _wait(future: Any, client: Any, address: str) -> Any:
    """The result of `future`. BackendError: nobody is left to make it."""
    heard = time.monotonic()
    while True:
        try:
            return future.result(timeout=POLL)
        except TimeoutError:
            if client.status == "running" and _answers(client):
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE - POLL - SILENCE // 2:
                raise _silent(address) from None
        except Exception as error:
            if future.status == "error":  # our own function failed on a worker
                raise BackendError("a worker failed: {reason}", reason=shortened(error)) from error
            raise _silent(address) from error


def run_on_cluster(
    address: str, make: Callable[..., list[Any]], grid: Any, chunks: Sequence[tuple[int, int]]
) -> Iterator[list[Any]]:
    """`make(grid, start, stop)` for every chunk, in order. BackendError: see above."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a lost connection is told by our own error
    try:
        client = _connect(address)
        try:
            futures = [client.submit(make, grid, start, stop, pure=False) for start, stop in chunks]
            for i, future in enumerate(futures):
                yield _wait(future, client, address)
                futures[i] = None  # the cluster may forget it
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=1)
    finally:
        logger.setLevel(level)
