"""The pytest plugin (entry point `pytest11`).

Every pytest run on a machine with kvsim loads it, so it imports only pytest until the fixture is used.
"""

import argparse
import os

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvsim.testing.oracle import Oracle


def natural(text: str) -> int:
    """The text as a whole number of at least 0. ArgumentTypeError: anything else."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text}")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kvsim", "kvsim: checks of key/value caches that name the mistake")
    group.addoption("--kv-seed", type=natural, default=0, metavar="N", help="seed of weights and texts (0)")
    group.addoption("--kv-cases", type=natural, default=0, metavar="N", help="more feeds, cut at random (0)")
    group.addoption("--kv-report", metavar="DIR", help="write each failed check to DIR, one JSON file a test")


def pytest_configure(config: pytest.Config) -> None:
    report = config.getoption("--kv-report")
    if report and os.path.exists(report) and not os.path.isdir(report):
        raise pytest.UsageError(f"--kv-report: expected a folder, got the file {report}")


@pytest.fixture
def kv_oracle(request: pytest.FixtureRequest) -> "Oracle":
    """The checks of `kvsim.testing`, with the seed, cases and report folder of this run."""
    from pathlib import Path

    from kvsim.testing.oracle import Oracle

    option = request.config.getoption
    report = option("--kv-report")
    return Oracle(option("--kv-seed"), option("--kv-cases"), Path(report) if report else None, request.node.nodeid)
