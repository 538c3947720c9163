"""The pytest plugin (entry point `pytest11`). It loads in every pytest run of everybody who has kvsim: nothing but
pytest, which is there already, is imported before the fixture is used."""

import argparse
import os

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvsim.testing.oracle import Oracle


def natural(text: str) -> int:
    """A whole number from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text}")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kvsim", "kvsim: checks of key/value caches that name the mistake")
    group.addoption("--kv-seed", type=natural, default=0, metavar="N", help="seed of weights and texts (0)")
    group.addoption("--kv-cases", type=natural, default=0, metavar="N", help="more feeds, cut at random (0)")
    group.addoption("--kv-report", metavar="DIR", help="write what fails to DIR, one JSON file a test")


def pytest_configure(config: pytest.Config) -> None:
    report = config.getoption("--kv-report")
    if report and os.path.exists(report) and not os.path.isdir(report):
        raise pytest.UsageError(f"--kv-report: expected a folder, got the file {report}")


@pytest.fixture
def kv_oracle(request: pytest.FixtureRequest) -> "Oracle":
    """The checks of `kvsim.testing`, with this run's options."""
    from pathlib import Path

    from kvsim.testing.oracle import Oracle

    option = request.config.getoption
    report = option("--kv-report")
    return Oracle(option("--kv-seed"), option("--kv-cases"), Path(report) if report else None, request.node.nodeid)
