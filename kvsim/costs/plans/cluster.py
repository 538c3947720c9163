"""Chunks of a sweep on a Dask cluster whose workers have kvsim installed. Results come in the order of the chunks.

If the scheduler does not answer, or has no workers, for SILENCE seconds, the sweep ends with an error.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kvsim.errors import BackendError, shortened

SILENCE = 8  # seconds, so that the error comes within 10
POLL = 1  # seconds between checks of the scheduler while a result is pending


def _connect(address: str) -> Any:
    """A client of the scheduler at `address`. BackendError: Dask is missing, or the scheduler does not answer."""
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendError('--scheduler needs Dask: pip install ".[dask]" in a clone of kvsim') from error
    try:
        return Client(address, timeout=SILENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # no connection, or not an address
        raise _silent(address) from error


def _silent(address: str) -> BackendError:
    return BackendError(
        "no scheduler with workers answers at {address}: given up within {seconds} s",
        address=shortened(address),
        seconds=SILENCE,
    )


def _answers(client: Any) -> bool:
    """Whether the scheduler answers and has workers."""
    try:
        return bool(client.sync(client.scheduler.identity, callback_timeout=SILENCE // 2)["workers"])
    except Exception:  # whatever a broken connection raises
        return False


def _wait(future: Any, client: Any, address: str) -> Any:
    """The result of `future`. BackendError: the cluster does not answer, or the function failed on a worker."""
    last_answer = time.monotonic()
    while True:
        try:
            return future.result(timeout=POLL)
        except TimeoutError:
            if client.status == "running" and _answers(client):
                last_answer = time.monotonic()
            elif time.monotonic() - last_answer > SILENCE - POLL - SILENCE // 2:
                raise _silent(address) from None
        except Exception as error:
            if future.status == "error":  # the function failed on a worker
                raise BackendError("a worker failed: {reason}", reason=shortened(error)) from error
            raise _silent(address) from error


def run_on_cluster(
    address: str, make: Callable[..., list[Any]], grid: Any, chunks: Sequence[tuple[int, int]]
) -> Iterator[list[Any]]:
    """`make(grid, start, stop)` for every chunk, in order. BackendError: as `_connect` and `_wait`."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a lost connection is reported by our own error
    try:
        client = _connect(address)
        try:
            futures = [client.submit(make, grid, start, stop, pure=False) for start, stop in chunks]
            for i, future in enumerate(futures):
                yield _wait(future, client, address)
                futures[i] = None  # the cluster may release the result
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=1)
    finally:
        logger.setLevel(level)
